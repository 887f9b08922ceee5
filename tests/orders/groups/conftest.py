"""The desk's floor with a broker that asks nothing of exits, and helpers to look at a group. Models late."""

import pytest


@pytest.fixture
def known(floor):
    """What the broker asks of stops and far limits is allowed in advance."""
    from brokers.models import Account

    Account.objects.update(allowed_question_ids=["o163", "o10331", "o403"])
    floor.sim.config(price_limit_percent=90)
    return floor
