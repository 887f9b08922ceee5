"""README's table of tools is the registry's."""

import re
from io import StringIO

from django.conf import settings
from django.core.management import call_command

from cerbero.access import SCOPES
from cerbero.tool import TOOLS

BEGIN, END = "<!-- tools: begin -->", "<!-- tools: end -->"


def printed() -> str:
    out = StringIO()
    call_command("tools", stdout=out)
    return out.getvalue().strip()


def test_readme_shows_the_tools_that_there_are() -> None:
    readme = (settings.BASE_DIR / "README.md").read_text()
    found = re.search(f"{BEGIN}\n(.*?)\n{END}", readme, re.DOTALL)
    assert found, f"README.md needs the output of `manage.py tools` between {BEGIN} and {END}"
    assert found[1].strip() == printed(), "run `manage.py tools` and put its output between the markers"


def test_each_tool_is_one_row_with_a_sentence() -> None:
    rows = printed().splitlines()[2:]
    assert len(rows) == len(TOOLS)
    for row in rows:
        name, effect, scope, sentence = (cell.strip(" `") for cell in row.strip("|").split("|"))
        assert name in TOOLS
        assert effect in {"read", "write", "destructive"}
        assert scope in SCOPES
        assert sentence.endswith("."), row
        assert len(sentence) < 200, row


def test_a_tool_that_moves_money_never_asks_for_a_reading_scope_alone() -> None:
    assert not [
        tool.name for tool in TOOLS.values() if tool.effect != "read" and tool.scope.endswith(":read")
    ]
