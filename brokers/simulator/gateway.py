"""IBKR's Client Portal Gateway: a TLS port of its own, and a session that wants the person every day.

What comes in here needs no signature: the gateway is signed in, or everything is refused (ibkr-web-api.md §2.2, §7.1).
"""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .answers import Refusal
from .credentials import write_private
from .exchange import Clock
from .store import Store

SIGNED_IN_FOR = timedelta(hours=24)
COOKIE = "x-sess-uuid"
CERTIFICATE_DAYS = 3650


class GatewayLogin:
    """Whether a person is signed in at the gateway, by the exchange's clock. Kept over restarts."""

    def __init__(self, store: Store, clock: Clock):
        self._store, self._clock = store, clock
        row = store.fact("gateway", {})
        self.cookie: str = row.get("cookie", "")
        self._until = datetime.fromisoformat(row["until"]) if row else None

    @property
    def is_signed_in(self) -> bool:
        return self._until is not None and self._clock.now() < self._until

    @property
    def expires_ms(self) -> int:
        """How long IBKR still leaves the person alone, in milliseconds."""
        left = self._until - self._clock.now() if self._until else timedelta(0)
        return max(0, int(left.total_seconds() * 1000))

    def sign_in(self) -> None:
        """A person signs in: for a day, and with a cookie of its own."""
        self._until, self.cookie = self._clock.now() + SIGNED_IN_FOR, token_hex(16)
        self._store.save(facts={"gateway": {"until": self._until.isoformat(), "cookie": self.cookie}})

    def sign_out(self) -> None:
        self._until, self.cookie = None, ""
        self._store.save(facts={"gateway": {}})


def comes_by_gateway(request: web.Request) -> bool:
    """The gateway's port alone is encrypted."""
    return request.secure


def check_signed_in(login: GatewayLogin, request: web.Request) -> None:
    """Refuses what comes before the person did, and a cookie of an earlier sign-in."""
    given = request.cookies.get(COOKIE)
    if not login.is_signed_in or given not in (None, login.cookie):
        raise Refusal(401, {"error": "Access Denied", "statusCode": 401})


def certificate(state_dir: Path) -> ssl.SSLContext:
    """A certificate that signs itself, as the real gateway's; made once."""
    path = state_dir / "gateway.pem"
    if not path.exists():
        write_private(path, _new_certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _new_certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated gateway")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    began = datetime.now(UTC) - timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
    return (private + made.public_bytes(pem)).decode()
