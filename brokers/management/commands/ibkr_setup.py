"""`manage.py ibkr_setup`: from nothing to a login at IBKR, through its self-service OAuth portal."""

import getpass
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brokers import primes
from brokers.entering import (
    GATEWAY_URL,
    enter_gateway,
    enter_login,
    gateway_places,
    mistakes_for,
    places_of,
    try_gateway_once,
    try_keys_once,
)
from brokers.generation import GROUP_14_PRIME
from brokers.ibkr.entered import WAITING
from brokers.ibkr.oauth import IbkrCredentials
from brokers.key_folder import ISSUED, ISSUED_FILE, PRIME_FILE, KeyFolder, read_issued
from brokers.models import Login, Region
from cerbero import access
from cerbero.errors import BadInput, BrokerUnavailable, CerberoError, ManualLoginRequired
from cerbero.models import Environment

PORTAL = "https://ndcdyn.interactivebrokers.com/sso/Login?action=OAUTH&RL=1&ip2loc=US"
PROGRESS_SECONDS = 5.0

UPLOAD_KEYS = """
Sign in at {portal}
with the {environment} username itself: paper and live usernames have keys of their own.
  consumer key            nine capital letters of your choice
  public signature key    {folder}/public_signature.pem
                          SHA-256 {signature}
  public encryption key   {folder}/public_encryption.pem
                          SHA-256 {encryption}
Upload the files as they are: other line endings are refused as "failed to put consumer info".
"""
UPLOAD_PRIME = """
  Diffie-Hellman          {folder}/dhparam.pem
Then generate the access token and its secret there. They are shown once."""
PROMPTS = {
    "consumer_key": "Consumer key: ",
    "access_token": "Access token (not shown): ",
    "access_token_secret": "Access token secret (not shown): ",
}


NO_GATEWAY = """No gateway answers at {url} ({cause}). Is it running? Its own certificate is signed by nobody:
on this machine --unverified-tls takes it as it is."""


class Command(BaseCommand):
    """Makes the keys, says what to upload, checks what the portal issued, tries it, and stores the login.

    It goes on where it was left: run it again with the same folder. Secrets are asked for or read from a file
    of mode 0600, and never shown. Nothing is stored before the broker has given a live session token.
    """

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="a short name of your own, such as desk-paper")
        parser.add_argument("--environment", choices=Environment.values, required=True)
        parser.add_argument(
            "--region", choices=Region.values, help="whose nights it has; America's by default"
        )
        parser.add_argument("--folder", type=Path, default=Path("keys"), help="where the keys are made")
        parser.add_argument(
            "--issued", type=Path, metavar="FILE", help=f"JSON with {', '.join(ISSUED)}, instead of asking"
        )
        parser.add_argument("--anew", action="store_true", help="ask again for what was entered before")
        parser.add_argument(
            "--known-prime", action="store_true", help="RFC 3526's, instead of searching for one of our own"
        )
        parser.add_argument(
            "--gateway",
            action="store_true",
            help=f"no keys: a person signs in at IBKR's Client Portal Gateway ({GATEWAY_URL})",
        )
        parser.add_argument(
            "--unverified-tls",
            action="store_true",
            help="take the gateway's own certificate as it is: localhost, 127.0.0.1 or ::1 only",
        )
        parser.add_argument("--base-url", metavar="URL", help="only where it is not the broker's own")

    def handle(self, **options: Any) -> None:
        walk = self._by_gateway if options["gateway"] else self._walk
        try:
            walk(**options)
        except CerberoError as refusal:
            raise CommandError(refusal.message) from None

    def _by_gateway(
        self, *, name: str, environment: str, base_url: str | None, unverified_tls: bool, **options: Any
    ) -> None:
        """Nothing is made and nothing typed: the gateway must be there, and a person signed in."""
        url, is_verified = base_url or GATEWAY_URL, not unverified_tls
        gateway_places(url, is_verified=is_verified)
        page = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/"
        try:
            accounts = try_gateway_once(url, environment=environment, is_verified=is_verified)
        except ManualLoginRequired:
            words = f"with the {environment} username, then run this again."
            raise BadInput(
                f"The gateway answers, and nobody is signed in. Sign in at {page} {words}"
            ) from None
        except BrokerUnavailable as away:
            raise BadInput(NO_GATEWAY.format(url=url, cause=away.details.get("cause", ""))) from None
        self.stdout.write(f"Somebody is signed in, which opens {len(accounts)} account(s).")
        _, is_new = enter_gateway(
            actor=access.system("ibkr_setup"),
            name=name,
            environment=environment,
            base_url=url,
            is_verified=is_verified,
            region=options["region"] or "",
        )
        self.stdout.write(f"{name}: {'entered' if is_new else 'moved'}; its session is brought up next.")
        self.stdout.write(f"IBKR asks for the person again after a day at most: {page}")

    def _walk(
        self, *, name: str, environment: str, folder: Path, base_url: str | None, **options: Any
    ) -> None:
        places = places_of(base_url) if base_url else {}
        login = Login.objects.filter(name=name).first()
        if login and login.environment != environment:
            raise BadInput(f"{name} is entered as {login.environment}; a login never changes that.")
        keys = KeyFolder(folder)
        halves = keys.make_pairs()
        words = {"portal": PORTAL, "environment": environment, "folder": folder}
        prints = {kind: half.fingerprint for kind, half in halves.items()}
        self.stdout.write(UPLOAD_KEYS.format(**words, **prints))
        self._make_prime(keys, is_known=options["known_prime"])
        prime = keys.prime()
        self.stdout.write(UPLOAD_PRIME.format(folder=folder))
        issued = self._issued(keys, options["issued"], is_anew=options["anew"])
        if issued is None:
            self.stdout.write("Run this again with the same folder when the portal has shown them.")
            return
        entered = _credentials(keys, prime, issued)
        entered = self._checked(name, keys, entered, may_ask=options["issued"] is None)
        address = places.get("base_url") or (login or Login()).base_url
        self._try(keys, entered, environment, address, places)
        region = {"region_zone": options["region"]} if options["region"] else {}
        self._store(name, environment, places | region, keys, entered)

    def _make_prime(self, keys: KeyFolder, *, is_known: bool) -> None:
        if keys.has_prime():
            return
        if is_known:
            keys.keep_prime(int(GROUP_14_PRIME, 16))
            return
        self.stdout.write(
            f"Searching for the prime of {PRIME_FILE} in the background; it takes some minutes."
        )
        search = PrimeSearch()
        search.start()
        try:
            while search.is_alive():
                search.join(PROGRESS_SECONDS)
                self.stdout.write(
                    f"  {search.tried} candidates tried; half of all searches end by {primes.TYPICAL_TRIES}"
                )
        finally:
            search.is_unwanted = True
        if search.prime is None:
            raise BadInput("The search for a prime ended without one; run this again, or use --known-prime.")
        keys.keep_prime(search.prime)

    def _issued(self, keys: KeyFolder, path: Path | None, *, is_anew: bool) -> dict[str, str] | None:
        """What the portal showed: of the file, of an earlier run, or typed; None where nobody can be asked."""
        if path is not None:
            return read_issued(path)
        kept = None if is_anew else keys.issued()
        return kept or (ask() if sys.stdin.isatty() else None)

    def _checked(
        self, name: str, keys: KeyFolder, entered: IbkrCredentials, *, may_ask: bool
    ) -> IbkrCredentials:
        """What has no mistake that can be seen from here; a person is asked until it has none."""
        while wrong := mistakes_for(name, entered):
            sentences = "\n".join(f"{each['field']}: {each['problem']}" for each in wrong)
            if not (may_ask and sys.stdin.isatty()):
                raise BadInput(sentences)
            self.stderr.write(sentences)
            entered = _credentials(keys, entered.dh_prime, ask())
        return entered

    def _try(
        self,
        keys: KeyFolder,
        entered: IbkrCredentials,
        environment: str,
        base_url: str,
        places: dict[str, str],
    ) -> None:
        issued = {name: getattr(entered, name) for name in ISSUED}
        try:
            accounts = try_keys_once(entered, environment=environment, base_url=base_url)
        except BadInput as refused:
            if refused.message != WAITING and not isinstance(refused.__cause__, BrokerUnavailable):
                raise
            keys.keep_issued(issued, places)
            kept = (
                f"What you entered is kept in {keys.path / ISSUED_FILE}: run the same command again later, "
            )
            raise BadInput(f"{refused.message}\n{kept}or with --anew to enter it again.") from refused
        keys.keep_issued(issued, places)
        self.stdout.write(f"The broker gave a live session token, which opens {len(accounts)} account(s).")

    def _store(
        self,
        name: str,
        environment: str,
        places: dict[str, str],
        keys: KeyFolder,
        entered: IbkrCredentials,
    ) -> None:
        _, is_new = enter_login(
            actor=access.system("ibkr_setup"),
            name=name,
            environment=environment,
            places=places,
            consumer_key=entered.consumer_key,
            access_token=entered.access_token,
            access_token_secret=entered.access_token_secret,
            dh_prime=f"{entered.dh_prime:x}",
            signature_key_pem=entered.signature_key_pem,
            encryption_key_pem=entered.encryption_key_pem,
        )
        done = "entered" if is_new else "given new keys"
        self.stdout.write(f"{name}: {done}; its session is brought up next.")
        self.stdout.write(f"The keys are in the database, encrypted. Move {keys.path} off this machine now.")


class PrimeSearch(threading.Thread):
    """The search, while a person reads what to upload."""

    def __init__(self, bits: int = primes.BITS) -> None:
        super().__init__(daemon=True)
        self._bits = bits
        self.prime: int | None = None
        self.tried = 0
        self.is_unwanted = False

    def run(self) -> None:
        for prime, tried in primes.search_on_all_processors(self._bits):
            self.prime, self.tried = prime, tried
            if self.is_unwanted:
                return


def ask() -> dict[str, str]:
    """What a person types or pastes; only the consumer key is seen."""
    typed = {name: getpass.getpass(words) for name, words in PROMPTS.items() if name != "consumer_key"}
    return {"consumer_key": input(PROMPTS["consumer_key"]).strip()} | {k: v.strip() for k, v in typed.items()}


def _credentials(keys: KeyFolder, prime: int, issued: dict[str, str]) -> IbkrCredentials:
    return IbkrCredentials(
        consumer_key=issued["consumer_key"],
        access_token=issued["access_token"],
        access_token_secret=issued["access_token_secret"],
        dh_prime=prime,
        signature_key_pem=keys.private_pem("signature"),
        encryption_key_pem=keys.private_pem("encryption"),
    )
