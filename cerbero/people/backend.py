"""What a person may do comes from groups alone: Django's column for people who may do everything opens nothing."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission

from cerbero.models import User


class GroupsBackend(ModelBackend):
    """Passwords as Django checks them; permissions only from the groups that `prepare_database` keeps."""

    def _get_permissions(self, user_obj: Any, obj: Any, from_name: str) -> set[str]:
        if not isinstance(user_obj, User) or not user_obj.is_active or obj is not None or from_name == "user":
            return set()
        if not hasattr(user_obj, "_group_perm_cache"):
            rows = Permission.objects.filter(group__in=user_obj.groups.all()).values_list(
                "content_type__app_label", "codename"
            )
            user_obj._group_perm_cache = {f"{app}.{name}" for app, name in rows.order_by()}  # type: ignore[attr-defined]
        return user_obj._group_perm_cache  # type: ignore[attr-defined]
