"""The simulator stands alone: no Django, no database, nothing of the product's client."""

import json
import os
import re
import subprocess
import sys
import time

from tests.simulator_process import ROOT

PACKAGE = ROOT / "brokers" / "simulator"


def test_it_loads_neither_django_nor_the_client():
    probe = (
        "import sys, brokers.simulator.server; print([m for m in sys.modules if m.split('.')[0] == 'django'])"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for path in PACKAGE.glob("*.py"):
        assert not re.search(
            r"^\s*(from|import) (django|brokers|cerbero|orders|audit)", path.read_text(), re.M
        ), path


def test_every_module_is_of_a_readable_size():
    assert max(len(path.read_text().splitlines()) for path in PACKAGE.glob("*.py")) <= 400


def test_the_management_command_needs_no_database(tmp_path):
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    command = [sys.executable, "manage.py", "simulate", "--port", "0", "--state-dir", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    try:
        path, deadline = tmp_path / "credentials.json", time.monotonic() + 60
        while not path.exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert json.loads(path.read_text())["base_url"].endswith("/v1/api")
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
