"""What would make tests slow and proves nothing in them."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class Hasher(PBKDF2PasswordHasher):
    """Hashes that any process of the product verifies, made in one round instead of a million."""

    iterations = 1
