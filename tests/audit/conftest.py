"""A trail of the test's own: a fresh database, and an anchor in a temporary folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rig import Database

if TYPE_CHECKING:
    from tests.audit.trail import Trail


@pytest.fixture
def trail(fresh_database: Database, tmp_path: Path) -> "Trail":
    # Imported late: conftest files load before Django is set up.
    from tests.audit.trail import Trail

    return Trail(fresh_database, tmp_path / "anchors" / "checkpoints.log")


@pytest.fixture
def sealed(trail: "Trail") -> "Trail":
    """Nine entries, sealed and signed in three goes, so that heads 3, 6 and 9 are anchored."""
    for _ in range(3):
        trail.write(3)
        trail.seal()
    return trail
