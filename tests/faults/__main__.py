"""`make faults`: the matrix, the mutants, a table, and last one line of JSON."""

import argparse
import json
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from tests.faults.driver import caught, run
from tests.faults.judge import COUNTS
from tests.rig import Servers

# A case mostly waits: two processors keep as many busy.
LANES = 6


def main() -> int:
    """Run what was asked for; 1 when a run broke an invariant or a mutant was missed."""
    words = argparse.ArgumentParser(prog="make faults", description=__doc__)
    words.add_argument(
        "--runs", type=int, default=0, help="so many seeded random runs in place of the matrix"
    )
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--case", default="", help="this case, or those whose names contain this")
    words.add_argument("--mutant", default="", help="only planted defects whose name contains this")
    words.add_argument(
        "--slice", action="store_true", help="cases by seed, until each place and each fault was played once"
    )
    words.add_argument("--lanes", type=int, default=LANES)
    words.add_argument("--no-mutants", action="store_true")
    given = words.parse_args()
    servers = Servers.start()
    try:
        servers.migrate_template()
        servers.keep_commits()
        from tests.faults import around  # noqa: F401  (it adds its own)
        from tests.faults.cases import CASES
        from tests.faults.mutants import MUTANTS

        named = [given.case] if given.case in CASES else CASES
        names = [name for name in named if given.case in name]
        names = slice_of(names, given.seed) if given.slice else names
        plan = list(planned(names, given.runs, given.seed))
        planted = [name for name in MUTANTS if given.mutant in name and not given.no_mutants]
        plan += [with_defect(name, given.seed) for name in planted]
        began = time.monotonic()
        together, alone = (
            [each for each in plan if CASES[each["case"]].is_alone == wanted] for wanted in (False, True)
        )
        rows = run(servers, together, given.lanes) + run(servers, alone, 1)
        for seed in (given.seed + 1, given.seed + 2):
            # Some show where two processes meet: on a busy machine not each time.
            if missed := [name for name, seen in caught(rows).items() if not seen]:
                rows += run(servers, [with_defect(name, seed) for name in missed], 1)
    finally:
        servers.stop()
    played = [row for row in rows if not row["mutant"]]
    return report(played, caught(rows), seconds=time.monotonic() - began)


def with_defect(name: str, seed: int) -> dict[str, Any]:
    """The run in which a planted defect shows."""
    from tests.faults.mutants import MUTANTS

    return {"case": MUTANTS[name].case, "seed": seed, "mutant": name}


def slice_of(names: list[str], seed: int) -> list[str]:
    """Few cases that together have every group, every crash point and every fault; which ones, the seed says."""
    from tests.faults.cases import FAULTS

    def has(name: str) -> set[str]:
        group, _, rest = name.partition(" | ")
        faults = {each for each in FAULTS if f"{each}, " in f"{rest}, "}
        return {group, *re.findall(r"[a-z]+\.[a-z_.]+", name), *faults}

    random.Random(seed).shuffle(names)
    wanted, chosen = set().union(*map(has, names)), []
    while wanted:
        chosen.append(max(names, key=lambda name: len(has(name) & wanted)))
        wanted -= has(chosen[-1])
    return chosen


def planned(names: list[str], runs: int, seed: int) -> Iterator[dict[str, Any]]:
    """The matrix once, or so many random runs; a run's own seed repeats it (RUNS=1 SEED=…)."""
    if not runs:
        yield from ({"case": name, "seed": seed + number} for number, name in enumerate(names))
    for number in range(runs):
        yield {"case": random.Random(seed + number).choice(names), "seed": seed + number}


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def report(rows: list[dict[str, Any]], found: dict[str, bool], *, seconds: float) -> int:
    """The table, what was missed, and the line of JSON."""
    say(f"{'':44}{'cases':>6}{'runs':>6}{'dup':>5}{'lost':>5}{'unappr':>7}{'halted':>7}{'stuck':>6}"
          f"{'parked':>7}{'doubt settled':>15}{'median s':>9}")  # fmt: skip
    for group in dict.fromkeys(row["group"] for row in sorted(rows, key=lambda row: row["case"])):
        mine = [row for row in rows if row["group"] == group]
        sums = {
            name: sum(row[name] for row in mine) for name in (*COUNTS, "parked", "doubted", "settled_itself")
        }
        doubt = f"{sums['settled_itself']} of {sums['doubted']}"
        median = statistics.median(row["seconds"] for row in mine)
        say(f"{group[:44]:44}{len({row['case'] for row in mine}):>6}{len(mine):>6}{sums['duplicates']:>5}"
              f"{sums['lost']:>5}{sums['unapproved']:>7}{sums['sent_after_halt']:>7}{sums['stuck']:>6}"
              f"{sums['parked']:>7}{doubt:>15}{median:>9.2f}")  # fmt: skip
    for name, seen in sorted(found.items()):
        say(f"mutant {name}: {'caught' if seen else 'MISSED'}")
    if missed := sum(row["missed"] > 0 for row in rows):
        say(
            f"{missed} runs did not come to the place at which their process was to end (VERBOSE=1 names them)"
        )
    say(f"{seconds:.0f} s")
    totals = {name: sum(row[name] for row in rows) for name in (*COUNTS, "parked")}
    say(json.dumps({
        "cases": len({row["case"] for row in rows}), "runs": len(rows), **totals,
        "mutants_planted": len(found), "mutants_caught": sum(found.values()),
    }))  # fmt: skip
    return int(any(totals[name] for name in COUNTS) or not all(found.values()))


if __name__ == "__main__":
    sys.exit(main())
