"""Ids as they may stand in a path; anything else is a ValueError before anything is sent."""

import re

ORDER_ID = re.compile(r"[1-9]\d*", re.ASCII)
ACCOUNT_ID = re.compile(r"[A-Za-z0-9]{1,20}")
REPLY_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def account_id(broker_account_id: str) -> str:
    return _checked(ACCOUNT_ID, broker_account_id)


def order_id(broker_order_id: str) -> str:
    return _checked(ORDER_ID, broker_order_id)


def instrument_id(broker_instrument_id: str) -> str:
    return _checked(ORDER_ID, broker_instrument_id)


def reply_id(reply_id: str) -> str:
    return _checked(REPLY_ID, reply_id)


def _checked(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError("This is not an id that may stand in a path.")
    return value
