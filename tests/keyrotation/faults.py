"""`make rotation-faults`: every step of a rotation killed before and after its commit, with orders flowing.

A table, and last one line of JSON. The processes are the product's own (tests/faults/nest.py); a probe asks the
broker all the while whether the login is usable, and the broker's book says what became of the orders.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from typing import Any

from tests.faults.driver import run
from tests.keyrotation.fault_cases import CASES, slice_of
from tests.keyrotation.fault_mutants import MUTANTS
from tests.rig import Servers

LANES = 3
LANE = "tests.keyrotation.fault_lane"


def main() -> int:
    """Play what was asked for; 1 when a login was locked out, an order lost or doubled, or an end was wrong."""
    words = argparse.ArgumentParser(prog="make rotation-faults", description=__doc__)
    words.add_argument(
        "--case", default="", help="only cases whose names contain one of these, separated by commas"
    )
    words.add_argument("--slice", action="store_true", help="one case of each mode")
    words.add_argument("--lanes", type=int, default=LANES)
    given = words.parse_args()
    names = slice_of() if given.slice else list(CASES)
    wanted = [name for name in names if any(part in name for part in given.case.split(","))]
    began, servers = time.monotonic(), Servers.start()
    try:
        servers.migrate_template()
        rows = run(servers, [{"case": name} for name in wanted], given.lanes, LANE)
        planted = (
            [] if given.case else [{"case": each.case, "mutant": name} for name, each in MUTANTS.items()]
        )
        caught = {
            row["mutant"]: _sums([row])[MUTANTS[row["mutant"]].sees] > 0
            for row in run(servers, planted, given.lanes, LANE)
        }
    finally:
        servers.stop()
    rows.sort(key=lambda row: list(CASES).index(row["case"]))
    _say_table(rows)
    for name, seen in caught.items():
        _say(f"mutant: {name}: {'caught' if seen else 'MISSED'}")
    _say(f"{time.monotonic() - began:.0f} s")
    sums = _sums(rows)
    # A lane that broke has told why, and no end of its case is known.
    sums["wrong_end_state"] += len(wanted) - len(rows)
    _say(json.dumps({"cases": len(wanted)} | sums))
    return int(any(sums.values()) or not all(caught.values()))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _say_table(rows: list[dict[str, Any]]) -> None:
    _say(
        f"{'mode':24}{'process':20}{'killed at':32}{'end':12}{'s':>6}{'orders':>8}{'lost':>6}{'longest ms':>12}{'dark s':>8}"
    )
    for row in rows:
        mark = "" if row["is_right"] else "  WRONG"
        mark += "  not reached" if row["missed"] else ""
        longest, dark = max(row["delays"], default=0), sum(row["dark"])
        _say(
            f"{row['mode']:24}{row['process']:20}{row['place']:32}{row['ends']:12}{row['seconds']:>6.1f}"
            f"{row['orders']:>8}{row['lost']:>6}{longest:>12.0f}{dark:>8.1f}{mark}"
        )
    delays = [each for row in rows for each in row["delays"]]
    told, refused = (
        sum(row["never_arrived"] for row in rows),
        sum((Counter(row["refused"]) for row in rows), Counter()),
    )
    if delays:
        _say(
            f"{sum(row['orders'] for row in rows)} orders: median {statistics.median(delays):.0f} ms from the yes to the "
            f"broker, longest {max(delays) / 1000:.1f} s; {told} told as never arrived; refused at the door: {dict(refused)}"
        )
    _say_spans(
        "dark in blackout mode, until the harness's night",
        [sum(row["dark"]) for row in rows if row["mode"] == "blackout"],
    )
    _say_spans("rolled back by itself", [row["back"] for row in rows if row["back"] is not None])
    _say(f"{sum(row['probes'] for row in rows)} probes of the login")


def _say_spans(what: str, spans: list[float]) -> None:
    if spans:
        _say(f"{what}: median {statistics.median(spans):.1f} s, longest {max(spans):.1f} s, of {len(spans)}")


def _sums(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {
        "locked_out": sum(len(row["dark"]) for row in rows if row["mode"] != "blackout"),
        "orders_lost": sum(row["lost"] for row in rows),
        "orders_duplicated": sum(row["duplicated"] for row in rows),
        "wrong_end_state": sum(not row["is_right"] for row in rows),
    }


if __name__ == "__main__":
    sys.exit(main())
