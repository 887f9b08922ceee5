"""The simulator as tests fork it: imported already, and with client keys that are made once for a run.

Making a pair of keys costs ten times what starting a simulator does. Tokens, secrets and accounts stay each one's own.
"""

import os
import sys

from brokers.simulator import credentials
from brokers.simulator.__main__ import main
from tests.simulator_process import ROOT

_PAIRS = credentials.new_key_pairs()


def serve(options: list[str], log: str) -> None:
    """Be `python -m brokers.simulator options…`, with all output in `log`."""
    credentials.new_key_pairs = lambda: _PAIRS
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(ROOT)
    sys.argv = ["brokers.simulator", *options]
    sys.exit(main())
