"""The pages on which people keep their own keys, and Administrators each other's."""

from people.admin import rows  # noqa: F401
