"""What a person may do comes from groups alone: Django's column for people who may do everything opens nothing."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission
from django.db.models import Value
from django.db.models.functions import Concat

from cerbero.database.compiled import Compiled, Given
from cerbero.models import User

_NAMES: Compiled[str] = Compiled(
    lambda: (
        Permission.objects.filter(group__user=Given("user"))
        .order_by()
        .values_list(Concat("content_type__app_label", Value("."), "codename"), flat=True)
    )
)


class GroupsBackend(ModelBackend):
    """Passwords as Django checks them; permissions only from the groups that `prepare_database` keeps."""

    def _get_permissions(self, user_obj: Any, obj: Any, from_name: str) -> set[str]:
        if not isinstance(user_obj, User) or not user_obj.is_active or obj is not None or from_name == "user":
            return set()
        if not hasattr(user_obj, "_group_perm_cache"):
            user_obj._group_perm_cache = set(_NAMES.rows(user=user_obj.pk))  # type: ignore[attr-defined]
        return user_obj._group_perm_cache  # type: ignore[attr-defined]
