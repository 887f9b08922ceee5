"""The pages on which people keep their own keys, and Administrators each other's."""

from cerbero.people.admin import rows  # noqa: F401
