"""The whole suite, once, as `make test` runs it."""

import re
import subprocess
import sys
import time

from bench._report import report
from cerbero.supervisor import BASE_DIR


def main() -> None:
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", *sys.argv[1:]]
    done = subprocess.run(command, cwd=BASE_DIR, stdout=subprocess.PIPE, text=True, check=False)
    seconds = round(time.monotonic() - began, 1)
    last = done.stdout.rstrip().splitlines()[-1]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}
    report("suite", [{"what": "suite", "seconds": seconds, "exit_code": done.returncode, **counts}])
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
