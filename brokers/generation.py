"""New keys for a login, and the halves of them that may be shown."""

import re
from base64 import b64decode, b64encode
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
DH_PEM = re.compile(r"-----BEGIN DH PARAMETERS-----(.*?)-----END DH PARAMETERS-----", re.DOTALL)
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


def prime_of_pem(pem: str) -> int:
    """The prime of `dhparam.pem`, ours or OpenSSL's. Raises ValueError for anything else, or another generator than 2."""
    found = DH_PEM.search(pem)
    if found is None:
        raise ValueError("no Diffie-Hellman parameters")
    sequence, _ = _der_read(b64decode("".join(found[1].split()), validate=True), 0x30)
    prime, rest = _der_read(sequence, 0x02)
    generator, _ = _der_read(rest, 0x02)
    if int.from_bytes(generator, "big") != GENERATOR:
        raise ValueError("the generator is not 2")
    return int.from_bytes(prime, "big")


def _der_read(content: bytes, tag: int) -> tuple[bytes, bytes]:
    """The first value of DER, and what follows it."""
    if len(content) < 2 or content[0] != tag:
        raise ValueError("not the parameters' form")
    size, start = content[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(content[2:start], "big")
    if len(content) < start + size:
        raise ValueError("cut off")
    return content[start : start + size], content[start + size :]


def _der_number(number: int) -> bytes:
    # One byte more than the bits need, so that it is never read as negative.
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _der(tag: int, content: bytes) -> bytes:
    """One value of DER: PKCS #3 parameters are a sequence of two numbers; `cryptography` is about to drop them."""
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
