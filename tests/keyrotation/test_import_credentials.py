"""Keys of an older installation come in whole and right, from files that nobody else can read, or not at all."""

import os
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from django.core.management import CommandError, call_command

from audit.models import Entry
from brokers.credentials import load_credentials
from brokers.generation import GROUP_14_PRIME
from brokers.ibkr.oauth import private_key
from brokers.models import Credential, Login
from tests.keyrotation.keys import old_pairs

SECRET = bytes(range(32))
KINDS = ("signature", "encryption")


@pytest.fixture
def old(db, tmp_path: Path) -> Path:
    """The older installation's folder: two PEM files, and the environment that names them."""
    signature, encryption = old_pairs()
    for kind, pair in zip(KINDS, (signature, encryption), strict=True):
        written(tmp_path / f"{kind}.pem", pair.private_pem)
    public = private_key(encryption.private_pem).public_key()
    values = {
        "CONSUMER_KEY": "OLDKEYSET",
        "ACCESS_TOKEN": "0123456789abcdef0123",
        "ACCESS_TOKEN_SECRET": b64encode(public.encrypt(SECRET, padding.PKCS1v15())).decode(),
        "DH_PRIME": GROUP_14_PRIME,
        **{f"{kind.upper()}_KEY_FP": str(tmp_path / f"{kind}.pem") for kind in KINDS},
    }
    lines = ["# the older installation", *(f"export IBIND_OAUTH1A_{k}='{v}'" for k, v in values.items())]
    written(tmp_path / "old.env", "\r\n".join(lines).encode())
    return tmp_path


def written(path: Path, content: bytes) -> Path:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def take(folder: Path, name: str = "old", environment: str = "paper") -> None:
    env = str(folder / "old.env")
    call_command("import_credentials", name, "--environment", environment, "--env-file", env)


def refusal(folder: Path, **options: str) -> str:
    with pytest.raises(CommandError) as refused:
        take(folder, **options)
    assert not Login.objects.exists()
    assert not Credential.objects.exists()
    return str(refused.value)


def test_a_whole_set_comes_in_and_waits_to_be_switched_on(old, capsys):
    take(old)
    login = Login.objects.get(name="old")
    keys = load_credentials(login)
    assert (login.is_enabled, keys.consumer_key) == (False, "OLDKEYSET")
    assert keys.signature_key_pem == (old / "signature.pem").read_bytes()
    assert Entry.objects.filter(event="login.entered", subject_id=str(login.pk)).exists()
    assert "switched off" in capsys.readouterr().out
    assert keys.access_token_secret not in str(list(Entry.objects.values_list("details", flat=True)))


@pytest.mark.parametrize("name", ["old.env", "signature.pem", "encryption.pem"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_read_or_write_is_refused(old, name, mode):
    (old / name).chmod(mode)
    assert f"is open to others (mode {mode:03o})" in refusal(old)


def test_whatever_is_no_ordinary_file_of_ours_is_refused_at_once(old, monkeypatch):
    path = old / "signature.pem"
    path.rename(elsewhere := old / "elsewhere.pem")
    assert "No such file" in refusal(old)
    path.symlink_to(elsewhere)
    assert "it is a link" in refusal(old)
    path.unlink()
    path.mkdir(mode=0o700)
    assert "no ordinary file" in refusal(old)
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert "no ordinary file" in refusal(old)
    path.unlink()
    written(path, b"x" * (64 * 1024 + 1))
    assert "longer than" in refusal(old)
    monkeypatch.setattr("brokers.key_folder.os.geteuid", lambda: os.getuid() + 1)
    assert "belongs to another user" in refusal(old)


def test_a_key_that_is_no_plain_rsa_key_is_refused(old):
    pair = private_key(old_pairs()[0].private_pem)
    locked = pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    curve = ec.generate_private_key(ec.SECP256R1())
    others = [
        locked,
        curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        b"-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n",
        b"",
    ]
    for pem in others:
        written(old / "signature.pem", pem)
        assert "not an unencrypted RSA private key" in refusal(old)


def test_what_does_not_fit_each_other_is_said_by_its_field_and_leaves_no_login_behind(old):
    env = (old / "old.env").read_text()
    composite = f"{int(GROUP_14_PRIME, 16) + 2:x}"
    for before, after, said in (
        (GROUP_14_PRIME, composite, "dh_prime: "),
        ("OLDKEYSET", "oldkeyset", "consumer_key: "),
        ("0123456789abcdef0123", "0123", "access_token: "),
        (GROUP_14_PRIME, "12", "prime is not a large odd number"),
        ("DH_PRIME", "DH", "lacks IBKR_DH_PRIME"),
    ):
        written(old / "old.env", env.replace(before, after).encode())
        assert said in refusal(old)
    swapped = env.replace("signature.pem", "x").replace("encryption.pem", "signature.pem")
    written(old / "old.env", swapped.replace("/x'", "/encryption.pem'").encode())
    assert "each other's place" in refusal(old)
    written(old / "old.env", b"\xff\xfe\x00")
    assert "is not text" in refusal(old)
    written(old / "old.env", env.encode())
    assert "letters, digits" in refusal(old, name="old desk")


def test_a_set_that_does_not_fit_leaves_the_one_in_use(old):
    take(old)
    before = load_credentials(Login.objects.get())
    for environment, said in (("paper", "token in use now"), ("live", "never changes that")):
        with pytest.raises(CommandError, match=said):
            take(old, environment=environment)
    assert load_credentials(Login.objects.get()) == before
