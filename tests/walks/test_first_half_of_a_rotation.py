"""One rotation, as far as the keys are made: over real sockets, with the old keys trading all the while."""

import json

import pytest

from brokers.credentials import complete_credential, load_credentials, open_credential
from brokers.models import Credential
from brokers.services import broker_for, client_for
from cerbero.access import issue_token
from cerbero.errors import CannotDecrypt
from cerbero.models import Bot
from tests.brokers.logins import SYSTEM, brought_up, somebody
from tests.doors import GRANIAN, serve


@pytest.fixture
def login(fresh_database, fresh_simulator):
    from brokers.connections import close_connections

    yield brought_up(fresh_simulator)
    close_connections()


def test_keys_are_made_by_a_tool_fit_the_broker_and_are_gone_after_an_abort(
    login, fresh_database, fresh_simulator, tmp_path
):
    bot = Bot.objects.create(name="ops", owner=somebody("alice", "Administrator"), environment="paper")
    headers = {
        "Authorization": f"Bearer {issue_token(bot, scopes=('rotation:admin',))}",
        "X_Bot_Tag": "walk",
        "Content_Type": "application/json",
    }
    with serve(fresh_database, tmp_path, *GRANIAN, "cerbero.wsgi:tools_application") as tools:

        def ask(tool, **arguments):
            status, _, body = tools.ask(f"/tools/{tool}", arguments, **headers)
            return status, json.loads(body)

        status, started = ask("start_rotation", login=login.name, reason="yearly")
        assert (status, started["status"]) == (200, "generated")
        status, refused = ask("start_rotation", login=login.name, reason="again")
        assert (status, refused["error"]["code"]) == (409, "rotation_open")

        # The old set is in use, and the session that stands on it is not disturbed.
        assert load_credentials(login).consumer_key == fresh_simulator.credentials["consumer_key"]
        with broker_for(login) as broker:
            assert broker.session_status().is_up

        row = Credential.objects.select_related("login").get(login=login, status="staged")
        prove_at_the_broker(row, started, fresh_simulator)

        status, aborted = ask("abort_rotation", rotation_id=started["rotation_id"], reason="wrong day")
        assert (status, aborted["status"]) == (200, "aborted")
    assert "PRIVATE KEY" not in tools.log.read_text() + json.dumps([started, aborted])
    row.refresh_from_db()
    with pytest.raises(CannotDecrypt):
        open_credential(row)
    with broker_for(login) as broker:
        assert broker.session_status().is_up


def prove_at_the_broker(row, started, simulator):
    """What a person will do at the portal: the broker takes the public halves, and the private ones mint."""
    issued = simulator.control(
        "POST",
        "/_sim/keys",
        {
            "consumer_key": "NEWKEYSET",
            "signature_public_key": started["signature_key"]["pem"],
            "encryption_public_key": started["encryption_key"]["pem"],
            "dh_prime": f"{open_credential(row).dh_prime:x}",
        },
    )
    complete_credential(row, actor=SYSTEM, consumer_key="NEWKEYSET", **issued)
    with client_for(row.login, open_credential(row), None) as client:
        assert client.mint()
