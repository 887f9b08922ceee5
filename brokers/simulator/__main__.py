"""`python -m brokers.simulator --port P --state-dir D`: no Django, no database."""

import argparse
import sys

from .server import add_arguments, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m brokers.simulator", description=__doc__)
    add_arguments(parser)
    return run(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
