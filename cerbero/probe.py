"""`python -m cerbero.probe URL [MARK]`: a container's health check, exit code 0 when well.

Without MARK the address must answer 200. With one, the answer is `/health/ready`'s, and that record must be well.
"""

import json
import sys
from urllib.parse import urlsplit
from urllib.request import urlopen


def is_well(url: str, mark: str | None = None) -> bool:
    """Ask once, for at most 4 s. An address that does not answer is not well."""
    if urlsplit(url).scheme != "http":
        raise ValueError(f"a probe asks a neighbour over http://, not {url}")
    try:
        with urlopen(url, timeout=4) as answer:  # noqa: S310  (the scheme was looked at)
            found = json.load(answer)
    except (OSError, ValueError):
        return False
    records = {record["name"]: record for record in found.get("dependencies", [])}
    return mark is None or bool(records.get(mark, {}).get("is_ok"))


if __name__ == "__main__":
    sys.exit(0 if is_well(*sys.argv[1:]) else 1)
