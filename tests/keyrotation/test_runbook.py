"""docs/key-rotation.md, followed step by step: what it tells people to type and press does what it says."""

import hashlib
import json
import re
import subprocess
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from audit.models import Entry
from brokers.credentials import load_credentials
from keyrotation.models import Rotation
from tests.keyrotation.test_swap import is_usable
from tests.rig import BASE_DIR

BOOK = (BASE_DIR / "docs" / "key-rotation.md").read_text()


def steps() -> list[str]:
    return re.findall(r"^\d\. \*\*(\w[\w ]*)", BOOK, re.MULTILINE)


def manage(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_the_steps_of_the_book_carry_a_login_to_its_new_keys(portal, tmp_path, monkeypatch, caplog):
    assert steps() == ["Start", "Upload", "Register", "Wait", "Confirm", "The swap", "Seven days later"]
    old = load_credentials(portal.login)
    name = portal.login.name

    # 1, 2: start and upload, with the fingerprints compared by OpenSSL as the book says.
    words = ("rotate_keys", "start", name, "--kind", "keys", "--reason", "yearly", "--as", "carol")
    assert "Next, a person" in manage(*words, "--public-to", str(tmp_path))
    rotation = Rotation.objects.get()
    for kind in ("signature", "encryption"):
        command = ["openssl", "pkey", "-pubin", "-in", f"public_{kind}.pem", "-outform", "DER"]
        der = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
        assert hashlib.sha256(der).hexdigest() == getattr(rotation.credential, f"{kind}_fingerprint")
    shown = portal.upload(rotation)

    # 3: register; the secret is asked for, and is in no answer.
    monkeypatch.setattr(
        "keyrotation.management.commands.rotate_keys.getpass", lambda _: shown["access_token_secret"]
    )
    typed = (
        "--consumer-key",
        shown["consumer_key"],
        "--access-token",
        shown["access_token"],
        "--as",
        "carol",
    )
    with pytest.raises(CommandError, match="capital letters"):
        manage("rotate_keys", "register", name, "--consumer-key", "newkeyset", *typed[2:])
    said = manage("rotate_keys", "register", name, *typed)

    # 4, 5, 6: tried, confirmed by another Administrator, swapped.
    portal.sweep()
    assert "Confirm the swap" in manage("rotate_keys", "status", name)
    portal.say(rotation)
    portal.sweep()
    assert portal.now(rotation).settled_at
    assert load_credentials(portal.login).consumer_key == shown["consumer_key"] != old.consumer_key
    assert is_usable(portal)

    # The way back, which the table names, and nothing secret anywhere on the way.
    manage("rotate_keys", "roll-back", name, "--reason", "the table says so", "--as", "carol")
    assert load_credentials(portal.login) == old
    trail = json.dumps(list(Entry.objects.values_list("details", flat=True)))
    seen = said + trail + caplog.text
    for secret in (shown["access_token_secret"], old.access_token_secret, "PRIVATE KEY"):
        assert secret not in seen
    with pytest.raises(CommandError, match="active Administrator"):
        manage("rotate_keys", "retry", name)


def test_the_books_line_puts_a_new_seal_key_before_the_old_one(tmp_path):
    path = tmp_path / "var" / "secrets" / "seal_key"
    path.parent.mkdir(parents=True)
    path.write_text(old := "ab" * 32)
    (line,) = re.findall(r"^\(umask 077;.*$", BOOK, re.MULTILINE)
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    new, former = path.read_text().split()
    assert (len(bytes.fromhex(new)), former, path.stat().st_mode & 0o077) == (32, old, 0)
    assert new != old
