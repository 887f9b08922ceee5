"""Cerbero's processes around a test's own database and brokers: live accounts too, which a demo never has."""

import hashlib
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from brokers import services as brokers
from brokers.models import Account, LiveClearance
from cerbero import access
from cerbero.models import User
from cerbero.processes import PROCESSES
from cerbero.supervisor import Supervisor
from tests.people.desk import administrators
from tests.rig import Database
from tests.simulator_process import free_port

PASSWORD = "a-long-password-of-a-test"
# Bots speak through services here, and nobody verifies the trail.
LEFT_OUT = {"simulator", "tools", "sealer"}
READY_SECONDS = 180


@dataclass
class House:
    """The console's address, the certificate that a browser is to trust, and the processes behind it."""

    url: str
    trusted: str
    supervisor: Supervisor


@contextmanager
def open_house(database: Database, folder: Path, settings: Any) -> Iterator[House]:
    """Live trading as it is in earnest: servers given by URL, TLS, people's port, orders, relay, worker and beat."""
    settings.LIVE_TRADING, settings.EMBEDDED_SERVERS = "enabled", False
    port, (keys, trusted) = free_port(), _certificate(folder)
    url = settings.PUBLIC_URL = f"https://localhost:{port}"
    environment = database.environment(LIVE_TRADING="enabled", EMBEDDED_SERVERS="0", PUBLIC_URL=url)
    with (folder / "house.log").open("w") as log:
        supervisor = Supervisor(log)
        try:
            for each in PROCESSES:
                if each.name not in LEFT_OUT:
                    words = each.command(host="127.0.0.1", port=port, var=folder)
                    supervisor.start(each.name, _over_tls(words, port, keys), environment)
            _wait_for(url, keys)
            yield House(url, trusted, supervisor)
        finally:
            supervisor.stop(list(supervisor.children))
            supervisor.close()


def clear_live(account: Account) -> tuple[User, User]:
    """Two Administrators let the account trade; they can sign in."""
    erin, frank = administrators("erin", "frank")
    brokers.enable_live(actor=access.person(erin), account=account, checklist=LiveClearance.CHECKLIST)
    brokers.confirm_live(actor=access.person(frank), account=account)
    return erin, frank


def let_in(*people: User) -> None:
    for person in people:
        person.set_password(PASSWORD)
        person.save(update_fields=["password"])


def _over_tls(words: list[str], port: int, keys: Path) -> list[str]:
    """Daphne's words with the listener behind a certificate, where a proxy would stand in earnest."""
    if words[0] != "daphne":
        return words
    listener = f"ssl:{port}:interface=127.0.0.1:privateKey={keys}:certKey={keys}"
    return ["daphne", "-v", "0", "-e", listener, words[-1]]


def _certificate(folder: Path) -> tuple[Path, str]:
    """A key and its certificate for localhost in one file, and what Chromium calls that key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=2))
    certificate = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "localhost.pem"
    path.write_bytes(private + certificate.public_bytes(pem))
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return path, b64encode(hashlib.sha256(key.public_key().public_bytes(*der)).digest()).decode()


def _wait_for(url: str, keys: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with httpx.Client(verify=ssl.create_default_context(cafile=str(keys)), timeout=4) as client:
        while not _answers(client, url):
            assert time.monotonic() < deadline, "the house did not open; see house.log"
            time.sleep(0.1)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False
