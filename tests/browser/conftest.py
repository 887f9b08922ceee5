"""Browsers of the test's own, small enough to throw away."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.pages import open_browser


@pytest.fixture
def browsers(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a person's own browser; told which key to trust, if its certificate is signed by nobody."""
    opened: list[Any] = []

    def another(trusted: str = "", **how: Any) -> Any:
        opened.append(open_browser(tmp_path / f"profile-{len(opened)}", trusted=trusted, **how))
        return opened[-1]

    yield another
    for each in opened:
        each.quit()


@pytest.fixture
def browser(browsers: Callable[..., Any]) -> Any:
    return browsers()
