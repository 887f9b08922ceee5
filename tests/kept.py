"""A migrated cluster, kept for as long as the product's code stays as it is: copying it saves each run the migrations.

What is made in it is proven by its keys, so they are kept with it. No test looks for what belongs to one cluster alone.
"""

import hashlib
import os
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("cerbero", "audit", "brokers", "orders", "keyrotation")
PREFIX, UNUSED_SECONDS = "cerbero-migrated-", 900
PARTS = ("pg", "secrets")


def restore(folder: Path, root: Path) -> bool:
    """Put the cluster that is kept below `folder` for this code into `root`; false when there is none."""
    kept = folder / _name()
    for each in folder.glob(f"{PREFIX}{os.geteuid()}-*"):
        if each != kept and time.time() - each.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(each, ignore_errors=True)
    if not kept.is_dir():
        return False
    os.utime(kept)
    _copy(kept, root)
    return True


def keep(folder: Path, root: Path) -> None:
    """Keep the stopped cluster of `root` for the next run. Whoever comes second has made the same one."""
    kept = folder / _name()
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    part.mkdir(0o700)
    try:
        _copy(root, part)
        part.rename(kept)
    except OSError:
        shutil.rmtree(part)


def _copy(source: Path, target: Path) -> None:
    # As root the cluster belongs to another user, and only an archive copy leaves it to him.
    subprocess.run(["cp", "-a", *(str(source / part) for part in PARTS), str(target)], check=True)


@cache
def _name() -> str:
    """Which code this is, and whose cluster."""
    found = hashlib.sha256((ROOT / "requirements.txt").read_bytes())
    for path in sorted(path for name in CODE for path in (ROOT / name).rglob("*.py")):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return f"{PREFIX}{os.geteuid()}-{found.hexdigest()[:16]}"
