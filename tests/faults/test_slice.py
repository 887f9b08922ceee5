"""The least of `make faults`, all of which .ci/run plays by itself: the harness works, the product passes, a defect does not."""

from tests.faults.driver import run
from tests.faults.judge import COUNTS
from tests.rig import Servers

CASE = "place, killed | place.after_send"
MUTANT, ITS_CASE = "a new client order id on a retry", "place | timeout, taken"


def test_a_crash_breaks_nothing_and_the_judge_sees_a_planted_defect(migrated: Servers) -> None:
    plan = [{"case": CASE, "seed": 1}, {"case": ITS_CASE, "seed": 1, "mutant": MUTANT}]
    good, bad = run(migrated, plan, lanes=1)
    if not bad["duplicates"]:
        # It shows where an answer comes too late and the order is there in time: on a very busy machine not always.
        (bad,) = run(migrated, plan[1:], lanes=1)
    assert not any(good[count] for count in COUNTS), good
    assert bad["duplicates"] > 0
