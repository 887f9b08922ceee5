"""Another key for everything that is stored encrypted: nothing is unreadable at any moment, and nothing is left behind."""

from base64 import urlsafe_b64encode
from io import StringIO

import psycopg
import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import BinaryField

from brokers.credentials import load_credentials
from brokers.models import Credential
from cerbero import decisions
from cerbero.encryption import decrypt, encrypt, rewrap
from cerbero.errors import CannotDecrypt
from cerbero.models import User
from cerbero.people.models import Passkey
from cerbero.people.passkeys import is_sealed
from keyrotation import renewing
from keyrotation.key_command import LOCK
from keyrotation.renewing import BY_ENCRYPTION_KEY, renew_all
from orders.notices.models import Webhook
from orders.notices.sending import told_digest
from tests.orders.notices.test_sending import webhook
from tests.people.desk import administrators, confirmed_key

OLD, NEW = (urlsafe_b64encode(bytes([each]) * 32).decode() for each in (1, 2))


@pytest.fixture
def key_file(settings, tmp_path):
    path = tmp_path / "encryption_key"
    path.write_text(f"{OLD}\n")
    settings.ENCRYPTION_KEY, settings.ENCRYPTION_KEY_PATH, settings.ENCRYPTION_KEY_STAMP = OLD, path, 0
    return path


def run(*words: str) -> str:
    out = StringIO()
    call_command("rotate_encryption_key", *words, stdout=out)
    return out.getvalue()


def test_every_sealed_column_of_every_model_is_known():
    ours = [
        model
        for model in apps.get_models()
        if model.__module__.split(".")[0] in {"brokers", "orders", "keyrotation"}
    ]
    ours += [model for model in apps.get_models() if model._meta.app_label == "people"]
    found = {
        f"{model._meta.model_name}.{field.name}"
        for model in ours
        for field in model._meta.get_fields()
        if isinstance(field, BinaryField)
    }
    public = {name for name in found if "challenge" in name or "signature." in name}
    public |= {"passkey.credential_id", "passkey.public_key"}
    assert found - public == set(map(str, BY_ENCRYPTION_KEY))


def test_a_rewrapped_secret_opens_under_the_new_key_alone_and_only_in_its_place(key_file, settings):
    blob = encrypt(b"secret", "row 1")
    settings.ENCRYPTION_KEY = f"{NEW} {OLD}"
    assert decrypt(blob, "row 1") == b"secret"
    moved = rewrap(blob, "row 1")
    assert rewrap(moved, "row 1") == moved
    settings.ENCRYPTION_KEY, settings.ENCRYPTION_KEY_PATH = NEW, None
    assert decrypt(moved, "row 1") == b"secret"
    for wrong, row in ((moved, "row 2"), (blob, "row 1")):
        with pytest.raises(CannotDecrypt):
            decrypt(wrong, row)


def test_the_command_goes_on_from_wherever_it_was_ended_and_drops_the_old_key_last(
    lasting_desk, settings, tmp_path
):
    path = tmp_path / "encryption_key"
    old = settings.ENCRYPTION_KEY
    path.write_text(old)
    settings.ENCRYPTION_KEY_PATH, settings.ENCRYPTION_KEY_STAMP = path, path.stat().st_mtime_ns
    before = load_credentials(lasting_desk.login)
    assert "Restart" in run()
    first, second = path.read_text().split()
    assert second == old
    assert path.stat().st_mode & 0o077 == 0 or path.stat().st_mode & 0o777 == 0o644
    # A process that began before the rotation still writes by the old key, and reads what is under the new one.
    settings.ENCRYPTION_KEY = old
    assert load_credentials(lasting_desk.login) == before
    row = Credential.objects.select_related("login").get()
    settings.ENCRYPTION_KEY = f"{first} {old}"
    assert sum(each.renewed for each in renew_all(BY_ENCRYPTION_KEY)) == 0
    assert "holds the new key alone" in run("--finish")
    settings.ENCRYPTION_KEY = path.read_text().strip()
    assert first == settings.ENCRYPTION_KEY
    assert load_credentials(lasting_desk.login) == before
    assert row.pk == before.credential_id


def test_what_people_confirmed_holds_under_the_new_key_alone(lasting_desk, settings, tmp_path):
    path = tmp_path / "encryption_key"
    path.write_text(old := settings.ENCRYPTION_KEY)
    settings.ENCRYPTION_KEY_PATH, settings.ENCRYPTION_KEY_STAMP = path, path.stat().st_mtime_ns
    erin, _ = administrators("erin", "frank")
    confirmed_key(User.objects.get(username="carol"), erin)
    with transaction.atomic():
        hook = webhook("desk")
    assert "passkey.seal: 1 put under the new key" in run()
    settings.ENCRYPTION_KEY = old
    assert is_sealed(Passkey.objects.get()), "a process that began before reads what is sealed by the new key"
    settings.ENCRYPTION_KEY = path.read_text()
    run("--finish")
    settings.ENCRYPTION_KEY, settings.ENCRYPTION_KEY_STAMP = path.read_text().strip(), path.stat().st_mtime_ns
    assert is_sealed(Passkey.objects.get())
    decisions.prove(hook.request, digest=told_digest(Webhook.objects.get()))


def test_a_run_that_was_ended_between_two_batches_goes_on_where_it_was(
    lasting_desk, settings, tmp_path, monkeypatch
):
    path = tmp_path / "encryption_key"
    path.write_text(settings.ENCRYPTION_KEY)
    settings.ENCRYPTION_KEY_PATH, settings.ENCRYPTION_KEY_STAMP = path, path.stat().st_mtime_ns
    lasting_desk.start()
    monkeypatch.setattr("keyrotation.renewing.BATCH", 1)
    renew_row, ended = renewing._renew_row, iter([False, True])

    def until_ended(*about) -> None:
        if next(ended):
            raise KeyboardInterrupt
        renew_row(*about)

    monkeypatch.setattr("keyrotation.renewing._renew_row", until_ended)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr("keyrotation.renewing._renew_row", renew_row)
    assert "1 put under the new key, 1 were already" in run()
    assert len(path.read_text().split()) == 2, "no third key came of it"
    assert load_credentials(lasting_desk.login).consumer_key == "OLDKEYSET"


def test_a_file_that_cannot_be_written_is_said_with_what_to_do(lasting_desk, settings, tmp_path):
    settings.ENCRYPTION_KEY_PATH = tmp_path / "nowhere" / "encryption_key"
    with pytest.raises(CommandError, match="cannot be written"):
        run()
    assert load_credentials(lasting_desk.login).consumer_key == "OLDKEYSET"


def test_of_two_runs_at_once_one_is_refused_and_no_key_is_lost(
    lasting_desk, fresh_database, settings, tmp_path
):
    path = tmp_path / "encryption_key"
    path.write_text(settings.ENCRYPTION_KEY)
    settings.ENCRYPTION_KEY_PATH, settings.ENCRYPTION_KEY_STAMP = path, path.stat().st_mtime_ns
    with psycopg.connect(fresh_database.url()) as other:
        other.execute("SELECT pg_advisory_lock(hashtext(%s))", [f"{LOCK}ENCRYPTION_KEY"])
        with pytest.raises(CommandError, match="Another run"):
            run()
    path.write_text(made := f"{NEW}\n{settings.ENCRYPTION_KEY}\n")
    with pytest.raises(CommandError, match="was changed since"):
        run()
    assert path.read_text() == made, "the key that the other run made, and used"
    assert load_credentials(lasting_desk.login).consumer_key == "OLDKEYSET"


def test_what_no_key_opens_keeps_the_old_key_in_place(lasting_desk, settings, tmp_path):
    path = tmp_path / "encryption_key"
    path.write_text(f"{NEW}\n{settings.ENCRYPTION_KEY}\n")
    settings.ENCRYPTION_KEY = path.read_text()
    settings.ENCRYPTION_KEY_PATH = path
    Credential.objects.update(dh_prime=b"\x02broken")
    with pytest.raises(CommandError, match="No key here opens"):
        run("--finish")
    assert len(path.read_text().split()) == 2
