"""docs/limits.md shows the limits that there are."""

import re
from io import StringIO

from django.conf import settings
from django.core.management import call_command

BEGIN, END = "<!-- limits: begin -->", "<!-- limits: end -->"


def test_the_page_lists_every_limit_with_its_default() -> None:
    out = StringIO()
    call_command("limits", stdout=out)
    page = (settings.BASE_DIR / "docs" / "limits.md").read_text()
    found = re.search(f"{BEGIN}\n(.*?)\n{END}", page, re.DOTALL)
    assert found
    assert found[1].strip() == out.getvalue().strip(), "put the output of `manage.py limits` there"
