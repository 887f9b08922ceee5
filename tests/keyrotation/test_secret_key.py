"""Another secret key: what people decided, limits, the policy and the states of trading hold under the new one alone."""

from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command

from cerbero import decisions, proofs
from cerbero.errors import NotProven
from cerbero.models import Decision, DecisionRequest
from keyrotation.renewing import BY_SECRET_KEY, renew_all
from orders import judging, policies
from orders.models import Limits, Ticket, TradingState
from tests.orders import world


@pytest.fixture
def key_file(settings: Any, tmp_path: Any) -> Any:
    path = tmp_path / "secret_key"
    path.write_text(settings.SECRET_KEY)
    settings.SECRET_KEY_PATH, settings.SECRET_KEY_STAMP = path, path.stat().st_mtime_ns
    return path


def run(*words: str) -> str:
    out = StringIO()
    call_command("rotate_secret_key", *words, stdout=out)
    return out.getvalue()


def unproven(ticket: Ticket) -> list[str]:
    """What does not hold of all that a sending looks at."""
    policies.active()
    grant = judging.granted(Ticket.objects.get(pk=ticket.pk))
    assert grant is not None
    judging.prove(ticket, grant)
    rows = [*Limits.objects.all(), *TradingState.objects.all()]
    return [str(row) for row in rows if not row.is_proven]


def test_everything_that_was_proven_is_proven_under_the_new_key_alone(
    db: Any, settings: Any, key_file: Any
) -> None:
    desk, old = world.build(), settings.SECRET_KEY
    desk.activate([{"name": "one", "then": {"do": "people", "quorum": 1}}])
    ticket = desk.decide(desk.place())
    assert unproven(ticket) == []
    assert "Restart every process" in run()
    new, second = key_file.read_text().split()
    assert (second, settings.SECRET_KEY) == (old, new)

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = old, []
    assert unproven(ticket) == [], "a process that began before takes what the others prove by the new key"
    later = desk.decide(desk.place())
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = new, [old]
    assert "holds the new key alone" in run("--finish")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = key_file.read_text().strip(), []
    settings.SECRET_KEY_STAMP = key_file.stat().st_mtime_ns
    assert [*unproven(ticket), *unproven(later)] == []
    assert sum(each.renewed for each in renew_all(BY_SECRET_KEY)) == 0


def test_every_column_of_proofs_is_known() -> None:
    found = {
        f"{model._meta.model_name}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if field.name == "proof"
    }
    # A close is sent or denied within a minute.
    assert found - {"ticket.proof"} == set(map(str, BY_SECRET_KEY))


def test_what_was_forged_is_not_made_good(db: Any, settings: Any, key_file: Any) -> None:
    desk = world.build()
    ticket = desk.decide(desk.place())
    DecisionRequest.objects.filter(pk=ticket.request_id).update(proof="f" * 64)
    run()
    request = DecisionRequest.objects.get(pk=ticket.request_id)
    assert request.proof == "f" * 64
    assert not proofs.holds_request(request)
    decision = Decision.objects.get(request=request)
    assert proofs.holds_decision(decision, request)
    with pytest.raises(NotProven):
        decisions.prove(request, digest=request.digest)
