"""What `make` does before Python runs: finding one, and not trusting a half-made venv."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.rig import BASE_DIR

TOOLS = ("sh", "sed", "rm", "mkdir", "touch", "test", "echo", "cat", "chmod")
# Stands in for python3.12: makes a venv whose python is itself, and notes what it was asked.
FAKE = """#!/bin/sh
echo "$0 $*" >> "$CALLS"
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && cat "$0" > "$3/bin/python" && chmod +x "$3/bin/python"; fi
"""


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = next(path for path in (Path("/bin") / tool, Path("/usr/bin") / tool) if path.exists())
        (folder / tool).symlink_to(found)
    return folder


def make(bin_folder: Path, venv: Path) -> subprocess.CompletedProcess:
    environment = {"PATH": str(bin_folder), "CALLS": str(bin_folder.parent / "calls")}
    command = ["/usr/bin/make", f"VENV={venv}", "up"]
    return subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True)


def with_python(bin_folder: Path) -> Path:
    fake = bin_folder / "python3.12"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    return bin_folder.parent / "calls"


def test_no_supported_python_is_a_sentence(bin_folder: Path, tmp_path: Path) -> None:
    done = make(bin_folder, tmp_path / "venv")
    assert done.returncode != 0
    assert "Cerbero needs Python 3.11 or 3.12 with its venv module" in done.stderr


def test_a_half_made_venv_is_made_anew(bin_folder: Path, tmp_path: Path) -> None:
    calls, venv = with_python(bin_folder), tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "left-over").write_text("")
    done = make(bin_folder, venv)
    assert done.returncode == 0, done.stderr
    assert not (venv / "left-over").exists()
    assert (venv / ".installed").exists()
    asked = calls.read_text()
    assert "-r requirements.txt" in asked
    assert asked.splitlines()[-1] == f"{venv}/bin/python manage.py up"


def test_a_finished_venv_is_left_alone_and_completed_when_the_pins_change(
    bin_folder: Path, tmp_path: Path
) -> None:
    calls, venv = with_python(bin_folder), tmp_path / "venv"
    make(bin_folder, venv)
    (venv / "kept").write_text("")
    calls.unlink()
    make(bin_folder, venv)
    assert calls.read_text() == f"{venv}/bin/python manage.py up\n"
    os.utime(venv / ".installed", (0, 0))
    make(bin_folder, venv)
    assert "-m pip install" in calls.read_text()
    assert (venv / "kept").exists()


def test_a_failed_installation_leaves_no_stamp(bin_folder: Path, tmp_path: Path) -> None:
    calls = with_python(bin_folder)
    fake = bin_folder / "python3.12"
    fake.write_text(FAKE + 'if [ "$2" = pip ]; then exit 1; fi\n')
    done = make(bin_folder, tmp_path / "venv")
    assert done.returncode != 0
    assert "pip could not install requirements.txt" in done.stderr
    assert not (tmp_path / "venv" / ".installed").exists()
    assert calls.exists()
