"""`manage.py demo`: one order from proposal to fill on a stack of its own, through the doors that people and bots use."""

import contextlib
import json
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx
from django.core.management.base import BaseCommand, CommandParser
from websockets.sync.client import connect
from websockets.typing import Origin

from cerbero.errors import CerberoError
from cerbero.stack import Running, running_stack

SYMBOL, QUANTITY = "AAPL", Decimal(10)
# Above the ask, so that the order fills at once, and well within the collar.
MARK_UP = Decimal("1.005")
SESSION_SECONDS, QUOTES_SECONDS, FILL_SECONDS, SEAL_SECONDS = 30.0, 15.0, 20.0, 10
QUOTE_FRAMES = 3
LOG_LINES = 40
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Found = TypeVar("Found")


class StepFailed(Exception):
    """A step did not hold; the message says what was seen instead."""


class Command(BaseCommand):
    """Runs before settings can be loaded: it knows the stack only from outside, as a stranger does."""

    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print, last, one line of JSON")

    def handle(self, **options: Any) -> None:
        walk = Walk(Path(tempfile.mkdtemp(prefix="cerbero-demo-")))
        for how in ENDINGS:
            signal.signal(how, walk.interrupt)
        try:
            told = run_steps(STEPS, walk, say=self._say)
            if not all(step["ok"] for step in told):
                self.stderr.write(walk.last_lines())
        finally:
            walk.stack.close()
            shutil.rmtree(walk.var, ignore_errors=True)
        ok = all(step["ok"] for step in told)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": ok, "steps": told}))
        sys.exit(0 if ok else 1)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


class Page(HTMLParser):
    """What the walk needs of a page: its forms with their fields, its table rows by cell, its socket's address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.socket = text, ""
        self.forms: dict[str, dict[str, str]] = {}
        self.rows: list[dict[str, str]] = []
        self._fields: dict[str, str] = {}
        self._cell = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.socket = has.get("data-socket", self.socket)
        if tag == "form":
            self._fields = self.forms.setdefault(has.get("action", ""), {})
        elif tag == "input" and "name" in has:
            self._fields[has["name"]] = has.get("value", "")
        elif tag == "tr":
            self.rows.append({"instrument": has.get("data-instrument", "")})
        elif tag in {"td", "th", "small"}:
            self._cell = has.get("class", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._fields = {}
        elif tag in {"td", "th", "small"}:
            self._cell = ""

    def handle_data(self, data: str) -> None:
        if self._cell and self.rows and data.strip():
            self.rows[-1][self._cell] = self.rows[-1].get(self._cell, "") + data.strip()

    @property
    def csrf(self) -> str:
        return next(fields["csrfmiddlewaretoken"] for fields in self.forms.values() if fields)


def browser(**options: Any) -> httpx.Client:
    """Loopback only: a proxy that the environment names must not be asked."""
    return httpx.Client(trust_env=False, timeout=20, **options)


class SignedIn:
    """A person's browser, as far as it goes without one: cookies, forms, redirects."""

    def __init__(self, running: Running, name: str) -> None:
        self.origin = running.web_url
        self.http = browser(base_url=self.origin, follow_redirects=True)
        password = next(each["password"] for each in running.demo["people"] if each["username"] == name)
        form = self.read("/admin/login/")
        page = self.send("/admin/login/", csrfmiddlewaretoken=form.csrf, username=name, password=password)
        if any("password" in fields for fields in page.forms.values()):
            raise StepFailed(f"{name} could not sign in")

    @property
    def cookies(self) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies.jar)

    def read(self, path: str, **query: str) -> Page:
        return self._page(self.http.get(path, params=query))

    def send(self, path: str, **fields: str) -> Page:
        return self._page(self.http.post(path, data=fields, headers={"Referer": self.origin + path}))

    @staticmethod
    def _page(response: httpx.Response) -> Page:
        if response.status_code != httpx.codes.OK:
            raise StepFailed(f"{response.request.url.path} answered {response.status_code}")
        return Page(response.text)


@dataclass(repr=False)
class Walk:
    """What the steps hand to each other."""

    var: Path
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    http: httpx.Client = field(default_factory=browser)
    running: Running = field(init=False)
    bob: SignedIn = field(init=False)
    ask: Decimal = field(init=False)
    order: dict[str, Any] = field(init=False)
    is_interrupted: bool = False
    is_in_step: bool = False

    def interrupt(self, *_: Any) -> None:
        """A signal ends the step that runs, and lets no other begin but the one that stops everything."""
        self.is_interrupted = True
        if self.is_in_step:
            raise KeyboardInterrupt

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A tool over HTTP, as the bot. Raises StepFailed with the refusal's words."""
        response = self.http.post(
            f"{self.running.tools_url}/tools/{tool}",
            headers={"Authorization": f"Bearer {self.running.demo['token']}", "X-Bot-Tag": "demo"},
            json=arguments,
        )
        body = response.json()
        if response.status_code != httpx.codes.OK:
            raise StepFailed(f"{tool}: {body['error']['code']}: {body['error']['message']}")
        return body

    def order_now(self) -> dict[str, Any]:
        return self.call("get_order", order_id=self.order["order_id"])

    def last_lines(self) -> str:
        """The end of what the processes logged, for whoever looks for the cause."""
        log = self.var / "logs" / "stack.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]) if log.exists() else ""


def bring_up(walk: Walk) -> str:
    walk.running = walk.stack.enter_context(running_stack(walk.var))
    return f"{walk.running.web_url}, tools on {walk.running.options.tools_port}"


def wait_for_session(walk: Walk) -> str:
    def login() -> dict[str, Any] | None:
        logins = walk.http.get(f"{walk.running.tools_url}/health/ready").json()["logins"]
        return next((each for each in logins if each["is_ok"]), None)

    up = until(SESSION_SECONDS, "no session with a live feed", login)
    until(SESSION_SECONDS, "the account's money was not read", lambda: _figures_read(walk))
    return f"login {up['name']} is {up['state']}, feed heard {up['feed_age_seconds']:g} s ago"


def _figures_read(walk: Walk) -> str | None:
    """Before the first reconciliation no order passes: there is nothing to hold it against."""
    account = walk.running.demo["accounts"][0]
    told = walk.call("get_limits", account=account)["accounts"]
    return told[0]["as_of"] if told else None


def receive_quotes(walk: Walk) -> str:
    """Over the live page's socket, with the cookie and the origin that a browser would send."""
    walk.bob = SignedIn(walk.running, "bob")
    page = walk.bob.read("/live/")
    instrument = next(row["instrument"] for row in page.rows if row.get("symbol") == SYMBOL)
    address = urljoin(walk.running.web_url.replace("http", "ws", 1), page.socket)
    asks: list[str] = []
    deadline = time.monotonic() + QUOTES_SECONDS
    headers = {"Cookie": walk.bob.cookies}
    origin = Origin(walk.running.web_url)
    with connect(address, origin=origin, additional_headers=headers, proxy=None) as live:
        while len(asks) < QUOTE_FRAMES:
            if time.monotonic() > deadline:
                raise StepFailed(f"{len(asks)} quotes of {SYMBOL} within {QUOTES_SECONDS:g} s")
            frame = json.loads(live.recv(timeout=QUOTES_SECONDS))
            live.send(json.dumps({"seen": frame["frame"]}))
            asks += [each["ask"] for each in frame["quotes"] if each["id"] == instrument and each["ask"]]
    walk.ask = Decimal(asks[-1])
    return f"{len(asks)} quotes of {SYMBOL}, ask {walk.ask}"


def propose(walk: Walk) -> str:
    limit = (walk.ask * MARK_UP).quantize(Decimal("0.01"), ROUND_UP)
    walk.order = walk.call(
        "place_order",
        account=walk.running.demo["accounts"][0],
        symbol=SYMBOL,
        side="buy",
        quantity=str(QUANTITY),
        order_type="limit",
        limit_price=str(limit),
        idempotency_key="demo-1",
        reason="the walk of make demo",
    )
    expect(walk.order["ticket_status"], "proposed")
    return f"buy {QUANTITY} {SYMBOL} limit {limit}, ticket {walk.order['ticket_id']}"


def refuse_owner(walk: Walk) -> str:
    """Alice owns the bot: her page offers no button, and a POST that she makes by hand is refused."""
    alice, path = SignedIn(walk.running, "alice"), approve_path(walk)
    page = alice.read("/admin/queue/")
    if walk.order["ticket_id"] not in page.text or path in page.forms:
        raise StepFailed("alice's queue does not show the ticket without an approve button")
    digest = walk.bob.read("/admin/queue/").forms[path]["digest"]
    answer = alice.send(path, csrfmiddlewaretoken=page.csrf, digest=digest)
    if "self_approval" not in answer.text:
        raise StepFailed("alice's POST was not refused as self_approval")
    expect(walk.order_now()["ticket_status"], "proposed")
    return "alice sees the ticket, has no button, and her POST is refused: self_approval"


def approve(walk: Walk) -> str:
    path = approve_path(walk)
    fields = walk.bob.read("/admin/queue/").forms.get(path)
    if not fields:
        raise StepFailed("bob's queue has no approve form for this ticket")
    page = walk.bob.send(path, **fields)
    if "Approved" not in page.text:
        raise StepFailed("the page after the POST does not say Approved")
    expect(walk.order_now()["decision"], "approved", "consumed")
    return f"bob, digest {fields['digest'][:16]}"


def wait_for_fill(walk: Walk) -> str:
    def filled() -> dict[str, Any] | None:
        walk.order = order = walk.order_now()
        # The price may come in a later report than the state.
        is_told = order["status"] == "filled" and order["average_price"]
        return order if is_told or order["status"] in {"rejected", "canceled", "expired"} else None

    order = until(FILL_SECONDS, "the order was not filled", filled)
    expect(order["status"], "filled")
    expect(Decimal(order["filled_quantity"]), QUANTITY)
    return (
        f"{order['filled_quantity']} at {order['average_price']}, broker's order {order['broker_order_id']}"
    )


def find_execution(walk: Walk) -> str:
    def rows() -> list[dict[str, str]] | None:
        page = walk.bob.read("/admin/orders/execution/", q=walk.order["broker_order_id"])
        found = [row for row in page.rows if "field-size" in row]
        size = sum((Decimal(row["field-size"].replace(",", "")) for row in found), Decimal(0))
        return found if size == QUANTITY else None

    found = until(FILL_SECONDS, f"the executions page does not add up to {QUANTITY}", rows)
    return f"{len(found)} executions on the admin's page add up to {QUANTITY}"


def verify_trail(walk: Walk) -> str:
    done = walk.running.manage("verify_audit", "--wait", str(SEAL_SECONDS), "--json")
    if done.returncode != 0:
        raise StepFailed((done.stdout or done.stderr).strip()[-500:])
    return f"{json.loads(done.stdout)['entries']} entries, whole"


def stop_everything(walk: Walk) -> str:
    """Ends the stack, then looks for what it left: processes, and ports that still answer."""
    # A second Ctrl-C must not leave servers behind.
    for how in ENDINGS:
        signal.signal(how, signal.SIG_IGN)
    before = descendants()
    walk.stack.close()
    left = [pid for pid in before if Path(f"/proc/{pid}/stat").exists()]
    options = walk.running.options
    ports = [port for port in (options.port, options.tools_port, options.simulator_port) if answers(port)]
    if left or ports:
        raise StepFailed(f"left running: processes {left}, ports {ports}")
    return f"{len(before)} processes ended, no port answers"


Step = Callable[[Walk], str]
STEPS: tuple[tuple[str, Step], ...] = (
    ("everything is up", bring_up),
    ("the session is up and quotes flow", wait_for_session),
    ("a websocket receives live quotes", receive_quotes),
    ("the bot proposes a limit order", propose),
    ("the bot's owner cannot approve it", refuse_owner),
    ("another person approves it in admin", approve),
    ("it is sent and filled", wait_for_fill),
    ("the execution is in the ledger", find_execution),
    ("the audit trail is whole", verify_trail),
    ("everything has stopped", stop_everything),
)


def run_steps(
    steps: tuple[tuple[str, Step], ...], walk: Walk, say: Callable[[str], Any]
) -> list[dict[str, Any]]:
    """Run the steps in order. After the first that does not hold only the last runs, which stops everything."""
    told: list[dict[str, Any]] = []
    for name, step in steps:
        is_last = name == steps[-1][0]
        began = time.monotonic()
        if not is_last and (walk.is_interrupted or not all(each["ok"] for each in told)):
            ok, detail = False, "interrupted" if walk.is_interrupted else "not reached"
        else:
            ok, detail = _held(step, walk)
        seconds = round(time.monotonic() - began, 2)
        told.append({"name": name, "ok": ok, "seconds": seconds, "detail": detail})
        say(f"{'ok  ' if ok else 'FAIL'} {seconds:6.2f} s  {name}: {detail}")
    return told


def _held(step: Step, walk: Walk) -> tuple[bool, str]:
    try:
        walk.is_in_step = True
        try:
            return True, step(walk)
        finally:
            walk.is_in_step = False
    except KeyboardInterrupt:
        return False, "interrupted"
    except CerberoError as refusal:
        return False, refusal.message
    except Exception as error:
        # Whatever it is, the rest must still be stopped and told.
        return False, f"{type(error).__name__}: {error}"


def until(seconds: float, failure: str, ask: Callable[[], Found | None]) -> Found:
    """The first answer that is not None. Raises StepFailed(failure) when none came in time."""
    deadline = time.monotonic() + seconds
    while (found := ask()) is None:
        if time.monotonic() > deadline:
            raise StepFailed(f"{failure} within {seconds:g} s")
        time.sleep(0.05)
    return found


def expect(seen: Any, *wanted: Any) -> None:
    if seen not in wanted:
        raise StepFailed(f"expected {' or '.join(map(str, wanted))}, saw {seen}")


def approve_path(walk: Walk) -> str:
    return f"/admin/queue/{walk.order['ticket_id']}/approve/"


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def descendants(root: int | str = "self") -> list[int]:
    """Process ids of this process' children, and theirs; empty where there is no /proc."""
    found: list[int] = []
    for path in Path(f"/proc/{root}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in map(int, path.read_text().split()):
                found += [pid, *descendants(pid)]
    return found
