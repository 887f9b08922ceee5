"""`ibkr_coverage` is read off the code: what is used is simulated and tested, and what is not is told."""

import json
from functools import cache
from io import StringIO
from pathlib import Path

from django.core.management import call_command

from brokers.management.coverage import Code, endpoints, files_naming, simulated_topics, template, topics
from cerbero.tool import TOOLS


@cache
def printed() -> list[str]:
    out = StringIO()
    call_command("ibkr_coverage", stdout=out)
    return out.getvalue().strip().splitlines()


def test_everything_that_is_used_is_simulated_and_tested() -> None:
    *rows, last = printed()
    told = json.loads(last)
    assert told["missing"] == []
    assert told["endpoints"] + told["topics"] == len(rows) - 2
    assert told["simulated"] == told["tested"] == len(rows) - 2
    assert 0 < told["tools"] < len(TOOLS)


def test_a_row_names_the_tool_the_simulator_and_the_test() -> None:
    bars = next(row for row in printed() if "marketdata/history" in row)
    assert bars == (
        "| `GET /iserver/marketdata/history` | get_bars | yes | tests/brokers/tools/test_market.py |"
    )
    placing = next(row for row in printed() if "`POST /iserver/account/{}/orders`" in row)
    assert "orders process" in placing


ADAPTER = """
class Client:
    def held(self, account):
        path = f"/portfolio/{account}/held"
        self._wire.read("POST", f"{path}/again")
        return self._wire.read("GET", path)

    def unused(self):
        return self._wire.read("GET", "/nobody")
"""
TOOL = """
from brokers.asking import ask

def get_held(actor, params):
    return ask(lambda broker: broker.held(params.account))
"""


def small_product(root: Path) -> Code:
    for name, text in {
        "brokers/ibkr/client.py": ADAPTER,
        "brokers/ibkr/stream.py": 'WORDS = ["smd+1+{}"]\n',
        "brokers/tools/held.py": TOOL,
        "brokers/asking.py": "def ask(read): ...\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Code(root)


def test_an_endpoint_is_found_with_whoever_asks_for_it_and_whoever_reaches_that(tmp_path: Path) -> None:
    code = small_product(tmp_path)
    asked = endpoints(code)
    assert set(asked) == {"POST /portfolio/{}/held/again", "GET /portfolio/{}/held", "GET /nobody"}
    reached = code.reached_from(("brokers.tools.held", "get_held"))
    assert reached & asked["GET /portfolio/{}/held"]
    assert not reached & asked["GET /nobody"], "nobody uses it, and the table says so"
    assert set(topics(code)) == {"smd"}


def test_routes_topics_and_tests_are_read_as_they_are_written() -> None:
    assert template("/portfolio/{account}/positions/{page:\\d+}") == "/portfolio/{}/positions/{}"
    assert simulated_topics('x = {"smd": 1, "other": 2}') == {"smd"}
    tests = {"a.py": 'ask("get_held")', "b.py": "broker.held(1)", "c.py": "unheld()"}
    assert files_naming(tests, ['"get_held"', r"\.held\("]) == ("a.py", "b.py")
    assert files_naming(tests, []) == ()
