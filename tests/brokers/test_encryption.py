"""Secrets at rest: bound to their row, unreadable anywhere else."""

import pytest

from brokers.credentials import bound_to, load_credentials, open_credential, store_credential
from brokers.models import Credential, Login
from cerbero import encryption
from cerbero.errors import BadInput, CannotDecrypt, CredentialMissing
from tests.brokers.logins import SYSTEM, events, key_material, make_login
from tests.simulator_process import SimulatorProcess


def test_what_was_encrypted_comes_back_and_never_looks_the_same_twice(settings) -> None:
    first, second = (encryption.encrypt(b"secret", "row 1") for _ in range(2))
    assert first != second
    assert b"secret" not in first
    assert encryption.decrypt(memoryview(first), "row 1") == b"secret"


def test_a_ciphertext_of_another_row_another_key_or_with_a_changed_byte_is_refused(settings) -> None:
    blob = encryption.encrypt(b"secret", "row 1")
    broken = [blob[:-1] + bytes([blob[-1] ^ 1]), b"\x03" + blob[1:], blob[:9], b""]
    for wrong in broken:
        with pytest.raises(CannotDecrypt):
            encryption.decrypt(wrong, "row 1")
    with pytest.raises(CannotDecrypt):
        encryption.decrypt(blob, "row 2")
    settings.ENCRYPTION_KEY = "A" * 43 + "="
    with pytest.raises(CannotDecrypt):
        encryption.decrypt(blob, "row 1")


def test_no_two_rows_share_an_identity() -> None:
    assert encryption.identity("a", "bc") != encryption.identity("ab", "c")


def test_stored_keys_come_back_whole_and_show_nowhere(db, simulator: SimulatorProcess) -> None:
    login = make_login(simulator)
    material = key_material(simulator.credentials)
    found = load_credentials(login)
    assert found.access_token_secret == material["access_token_secret"]
    assert found.dh_prime == int(material["dh_prime"], 16)
    assert found.signature_key_pem == material["signature_key_pem"]
    row = Credential.objects.get(login=login)
    assert b"PRIVATE" not in b"".join(bytes(getattr(row, c)) for c in ("signature_key", "encryption_key"))
    assert material["access_token_secret"] not in repr(found)
    assert len(row.signature_fingerprint) == 64
    assert row.signature_fingerprint != row.encryption_fingerprint
    assert events("credential.") == ["credential.stored"]


def test_a_ciphertext_moved_to_another_login_column_or_environment_does_not_open(
    db, simulator: SimulatorProcess
) -> None:
    login = make_login(simulator)
    row = Credential.objects.select_related("login").get(login=login)
    other = make_login(simulator, name="other", environment="live")
    Credential.objects.filter(login=other).update(signature_key=row.signature_key)
    with pytest.raises(CannotDecrypt):
        load_credentials(other)
    row.signature_key, row.encryption_key = row.encryption_key, row.signature_key
    with pytest.raises(CannotDecrypt):
        open_credential(row)
    Login.objects.filter(pk=login.pk).update(environment="live")
    with pytest.raises(CannotDecrypt):
        load_credentials(login)


def test_a_new_active_set_retires_the_old_one_and_forgets_its_session(
    db, simulator: SimulatorProcess
) -> None:
    login = make_login(simulator)
    Login.objects.filter(pk=login.pk).update(session_token=b"x", socket_session=b"y")
    store_credential(actor=SYSTEM, login=login, **key_material(simulator.credentials))
    statuses = (
        Credential.objects.filter(login=login).order_by("created_at", "id").values_list("status", flat=True)
    )
    assert list(statuses) == ["retired", "active"]
    assert bytes(Login.objects.get(pk=login.pk).session_token) == b""
    assert events("credential.") == ["credential.stored", "credential.retired", "credential.stored"]


def test_without_an_active_set_there_are_no_credentials(db, simulator: SimulatorProcess) -> None:
    login = Login.objects.create(name="bare", environment="paper")
    with pytest.raises(CredentialMissing):
        load_credentials(login)


@pytest.mark.parametrize(
    "change",
    [{"signature_key_pem": b"no key"}, {"dh_prime": "zz"}, {"dh_prime": "17"}, {"access_token": ""}],
)
def test_keys_that_cannot_be_used_are_refused(db, simulator: SimulatorProcess, change: dict) -> None:
    login = Login.objects.create(name="bare", environment="paper")
    with pytest.raises(BadInput):
        store_credential(actor=SYSTEM, login=login, **key_material(simulator.credentials) | change)
    assert not Credential.objects.exists()


def test_a_prime_may_stand_as_openssl_prints_it(db, simulator: SimulatorProcess) -> None:
    prime = int(simulator.credentials["dh_prime"], 16)
    digits = f"{prime:0512x}"
    printed = "00:" + ":".join(digits[i : i + 2] for i in range(0, 512, 2))
    login = Login.objects.create(name="bare", environment="paper")
    material = key_material(simulator.credentials) | {"dh_prime": printed[:60] + "\n   " + printed[60:]}
    row = store_credential(actor=SYSTEM, login=login, **material)
    assert open_credential(row).dh_prime == prime
    assert "dh_prime" in bound_to(row, "dh_prime")
