"""What every refusal has in common: a stable code, a status, and a sentence that says what to do."""

from typing import Any, ClassVar


class CerberoError(Exception):
    """Something was refused."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400
    retryable: ClassVar[bool] = False
    # True where the caller must look before it acts again: the thing may have happened.
    verify_first: ClassVar[bool] = False
    # True once the trail has this refusal, so that no door enters it again.
    is_entered = False

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.details = details
        super().__init__(self.message)

    def as_json(self) -> dict[str, Any]:
        """The `error` object of every door's answer."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "verify_first": self.verify_first,
            "details": self.details,
        }
