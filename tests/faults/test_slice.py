"""A small slice of `make faults`: the harness works, the product passes it, and a defect does not."""

from tests.faults.driver import hunt, run
from tests.faults.judge import COUNTS
from tests.rig import Servers

SLICE = (
    "place | timeout, taken",
    "place, killed | place.after_send",
    "place, killed | attempt.answered",
)
MUTANT = "a new client order id on a retry"


def test_a_slice_of_the_matrix_breaks_nothing(migrated: Servers) -> None:
    rows = run(migrated, [{"case": name, "seed": 1} for name in SLICE], lanes=2)
    assert sorted(row["case"] for row in rows) == sorted(SLICE)
    assert not [row for row in rows if any(row[count] for count in COUNTS)], rows


def test_the_judge_sees_a_planted_defect(migrated: Servers) -> None:
    assert hunt(migrated, [MUTANT], seed=1, lanes=1) == {MUTANT: True}
