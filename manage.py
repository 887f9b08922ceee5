#!/usr/bin/env python
"""Django's command line for Cerbero."""

import os
import sys

# These run before the settings are loaded: two start the servers that the settings name, one needs none.
WITHOUT_SETTINGS = {"up": "cerbero", "demo": "cerbero", "break_glass": "brokers"}


def main() -> None:
    if sys.version_info[:2] not in {(3, 11), (3, 12)}:
        sys.exit("Cerbero runs on Python 3.11 or 3.12; this is " + sys.version.split()[0])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cerbero.settings")
    if len(sys.argv) > 1 and sys.argv[1] in WITHOUT_SETTINGS:
        from django.core.management import load_command_class

        load_command_class(WITHOUT_SETTINGS[sys.argv[1]], sys.argv[1]).run_from_argv(sys.argv)
        return
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
