"""What the broker knows about its clients' keys, and the file that hands the private halves to a client.

`registrations.json` is the server's side: one login, its accounts, and any number of registered key sets
per consumer key. `credentials.json` is the client's side of the first key set.
"""

import base64
import json
import os
import re
import secrets
import string
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

# RFC 3526 group 14: a known safe prime, so that nothing has to be searched for at the first start.
GROUP_14_PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)


class StateMismatch(Exception):
    """The state directory belongs to another kind of login."""


def write_private(path: Path, content: str) -> None:
    """Replace a file in one step; readable by its owner only."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_public(pem: str) -> rsa.RSAPublicKey:
    """An RSA public key. Raises ValueError for anything else."""
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
        raise ValueError("an RSA public key of at least 2048 bits is needed")
    return key


def public_pem(key: rsa.RSAPrivateKey) -> str:
    """The public half, as it is uploaded to the broker."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def private_pem(key: rsa.RSAPrivateKey) -> str:
    """The private half, unencrypted PKCS#8."""
    none = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none).decode()


@dataclass(frozen=True)
class KeySet:
    """One registered set: what verifies one access token.

    It works from `active_at` on (epoch seconds). `refuses` is a regular expression of paths that it does not
    open, though all else works; with `misfit` the secret that the portal shows is not the one that counts.
    """

    consumer_key: str
    access_token: str
    secret: bytes = field(repr=False)
    dh_prime: int
    signature_key: rsa.RSAPublicKey = field(repr=False)
    encryption_key: rsa.RSAPublicKey = field(repr=False)
    active_at: float = 0.0
    refuses: str = ""
    misfit: bool = False

    @property
    def is_active(self) -> bool:
        return self.active_at <= time.time()

    def opens(self, path: str) -> bool:
        return not self.refuses or re.search(self.refuses, path) is None

    @property
    def encrypted_secret(self) -> str:
        """`access_token_secret` as the portal shows it: base64 of the RSA ciphertext (§1.1)."""
        shown = secrets.token_bytes(32) if self.misfit else self.secret
        return base64.b64encode(self.encryption_key.encrypt(shown, PKCS1v15())).decode()

    def to_json(self) -> dict[str, Any]:
        """The form that is kept in registrations.json."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        keys = {"signature_public_key": self.signature_key, "encryption_public_key": self.encryption_key}
        pems = {k: v.public_bytes(serialization.Encoding.PEM, form).decode() for k, v in keys.items()}
        return {
            "consumer_key": self.consumer_key,
            "access_token": self.access_token,
            "secret": self.secret.hex(),
            "dh_prime": f"{self.dh_prime:x}",
            "active_at": self.active_at,
            "refuses": self.refuses,
            "misfit": self.misfit,
            **pems,
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "KeySet":
        return cls(
            consumer_key=row["consumer_key"],
            access_token=row["access_token"],
            secret=bytes.fromhex(row["secret"]),
            dh_prime=int(row["dh_prime"], 16),
            signature_key=load_public(row["signature_public_key"]),
            encryption_key=load_public(row["encryption_public_key"]),
            active_at=row.get("active_at", 0.0),
            refuses=row.get("refuses", ""),
            misfit=row.get("misfit", False),
        )


class Registrations:
    """The login of one state directory: who it is, its accounts and its registered key sets."""

    def __init__(self, state_dir: Path, *, live: bool = False):
        self._dir = state_dir
        self._path = state_dir / "registrations.json"
        if self._path.exists():
            self._load(live)
        else:
            self._create(live)

    def _load(self, live: bool) -> None:
        content = json.loads(self._path.read_text())
        if content["live"] != live:
            kind = "live" if content["live"] else "paper"
            raise StateMismatch(f"{self._dir} holds a {kind} login; start it the same way, or use another")
        self.live: bool = content["live"]
        self.username: str = content["username"]
        self.accounts: list[str] = content["accounts"]
        self.key_sets = [KeySet.from_json(row) for row in content["key_sets"]]

    def _create(self, live: bool) -> None:
        signature, encryption = new_key_pairs()
        for name, key in (("signature", signature), ("encryption", encryption)):
            write_private(self._client_key_path(name), private_pem(key))
        self.live = live
        self.username = "simul" + "".join(secrets.choice(string.digits) for _ in range(4))
        first = secrets.randbelow(8_000_000) + 1_000_000
        prefix = "U" if live else "DU"
        self.accounts = [f"{prefix}{first}", f"{prefix}{first + 1}"]
        self.key_sets = []
        consumer_key = "".join(secrets.choice(string.ascii_uppercase) for _ in range(9))
        self.register(consumer_key, public_pem(signature), public_pem(encryption), GROUP_14_PRIME)

    def register(
        self,
        consumer_key: str,
        signature_pem: str,
        encryption_pem: str,
        dh_prime: int,
        *,
        replaces: bool = False,
        **more: Any,
    ) -> KeySet:
        """Accept public halves, as the portal does on Save, and issue an access token with its secret.

        `replaces`: every earlier set is gone from this moment. `more` are fields of KeySet.
        """
        key_set = KeySet(
            consumer_key=consumer_key.upper(),
            access_token=secrets.token_hex(10),
            secret=secrets.token_bytes(32),
            dh_prime=dh_prime,
            signature_key=load_public(signature_pem),
            encryption_key=load_public(encryption_pem),
            **more,
        )
        return self._keep(key_set, replaces=replaces)

    def renew_token(self, access_token: str, *, replaces: bool = False, **more: Any) -> KeySet:
        """Another access token and secret under the keys of a set. Raises KeyError when there is none."""
        old = next((each for each in self.key_sets if each.access_token == access_token), None)
        if old is None:
            raise KeyError(access_token)
        fresh = {"access_token": secrets.token_hex(10), "secret": secrets.token_bytes(32), **more}
        return self._keep(replace(old, **fresh), replaces=replaces)

    def _keep(self, key_set: KeySet, *, replaces: bool) -> KeySet:
        self.key_sets = [key_set] if replaces else [*self.key_sets, key_set]
        self._save()
        return key_set

    def change(self, access_token: str, **changes: Any) -> bool:
        """Alter fields of one set; false when there is none."""
        hit = [each.access_token == access_token for each in self.key_sets]
        self.key_sets = [
            replace(each, **changes) if is_hit else each
            for each, is_hit in zip(self.key_sets, hit, strict=True)
        ]
        self._save()
        return any(hit)

    def activate_all(self) -> None:
        """The nightly reset: whatever was registered works from now on (§1.1)."""
        for key_set in [each for each in self.key_sets if not each.is_active]:
            self.change(key_set.access_token, active_at=0.0)

    def revoke(self, access_token: str) -> bool:
        """Forget a key set; false when there is none."""
        kept = [key_set for key_set in self.key_sets if key_set.access_token != access_token]
        found = len(kept) != len(self.key_sets)
        self.key_sets = kept
        self._save()
        return found

    def knows_consumer(self, consumer_key: str) -> bool:
        return any(key_set.consumer_key == consumer_key for key_set in self._active())

    def find(self, consumer_key: str, access_token: str) -> KeySet | None:
        """The active key set that a request names."""
        for key_set in self._active():
            if (key_set.consumer_key, key_set.access_token) == (consumer_key, access_token):
                return key_set
        return None

    def _active(self) -> Iterator[KeySet]:
        return (key_set for key_set in self.key_sets if key_set.is_active)

    def write_client_file(self, places: dict[str, Any]) -> Path:
        """`credentials.json`: all that an unmodified client needs, private key paths included.

        `places` are the addresses, and under `gateway` those of the other way in where there is one.
        """
        path = self._dir / "credentials.json"
        content = json.loads(path.read_text()) if path.exists() else self._first_client()
        content = {name: value for name, value in content.items() if name != "gateway"} | places
        write_private(path, json.dumps(content, indent=2) + "\n")
        return path

    def _first_client(self) -> dict[str, Any]:
        first = self.key_sets[0]
        return {
            "base_url": "",
            "ws_url": "",
            "consumer_key": first.consumer_key,
            "access_token": first.access_token,
            "access_token_secret": first.encrypted_secret,
            "dh_prime": f"{first.dh_prime:x}",
            "signature_key_path": str(self._client_key_path("signature")),
            "encryption_key_path": str(self._client_key_path("encryption")),
            "accounts": self.accounts,
        }

    def _client_key_path(self, name: str) -> Path:
        return self._dir.resolve() / f"client_{name}_key.pem"

    def _save(self) -> None:
        content = {
            "live": self.live,
            "username": self.username,
            "accounts": self.accounts,
            "key_sets": [key_set.to_json() for key_set in self.key_sets],
        }
        write_private(self._path, json.dumps(content, indent=2) + "\n")


def new_key_pairs() -> tuple[rsa.RSAPrivateKey, rsa.RSAPrivateKey]:
    """Signature and encryption keys, made side by side: OpenSSL releases the interpreter's lock."""
    made: list[rsa.RSAPrivateKey] = []
    threads = [threading.Thread(target=lambda: made.append(new_private_key())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made[0], made[1]


def new_private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
