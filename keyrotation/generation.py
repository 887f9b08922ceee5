"""New keys for a login, and the halves of them that may be shown."""

from base64 import b64encode
from dataclasses import dataclass, field
from textwrap import wrap

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from brokers.credentials import fingerprint, public_pem

KEY_BITS = 2048
GENERATOR = 2
# A known safe prime of 2048 bits (RFC 3526, group 14): finding one of our own takes minutes.
GROUP_14_PRIME = (
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd"
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed"
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f"
    "83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b"
    "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510"
    "15728e5a8aacaa68ffffffffffffffff"
)


@dataclass(frozen=True)
class PublicHalf:
    """What a person uploads at the broker, and the SHA-256 of its DER to compare by."""

    pem: str
    fingerprint: str


@dataclass(frozen=True)
class KeyPair:
    """One new pair. The private half goes to the database, encrypted, and nowhere else."""

    private_pem: bytes = field(repr=False)
    public: PublicHalf


def public_half(private_pem: bytes) -> PublicHalf:
    """The half that may be shown."""
    return PublicHalf(public_pem(private_pem), fingerprint(private_pem))


def prime_pem(prime: int) -> str:
    """Diffie-Hellman parameters as the portal takes them: `dhparam.pem`, with the generator 2 (ibkr-web-api.md §1.1)."""
    der = _der(0x30, _der_number(prime) + _der_number(GENERATOR))
    lines = wrap(b64encode(der).decode(), 64)
    return "\n".join(["-----BEGIN DH PARAMETERS-----", *lines, "-----END DH PARAMETERS-----", ""])


def _der_number(number: int) -> bytes:
    # One byte more than the bits need, so that it is never read as negative.
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _der(tag: int, content: bytes) -> bytes:
    """One value of DER: PKCS #3 parameters are a sequence of two numbers, which is all that is needed of it here."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def new_pair() -> KeyPair:
    """An RSA pair that no one has seen; takes about a tenth of a second."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(private_pem, public_half(private_pem))
