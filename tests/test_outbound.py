"""The one way out: only where it may go, never by another name, never longer or later than said."""

import datetime
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cerbero import errors, outbound

INSIDE = "hook.internal"


class Endpoint(ThreadingHTTPServer):
    """A web server of the test's own; `reply` is what it does with a request."""

    daemon_threads = True

    def __init__(self, reply: Callable[[Any], None]) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []

        class Desk(BaseHTTPRequestHandler):
            def do_POST(desk) -> None:
                body = desk.rfile.read(int(desk.headers["Content-Length"]))
                self.heard.append((desk.path, dict(desk.headers), body))
                try:
                    reply(desk)
                except OSError:
                    return  # The caller hung up, as it should.

            def log_message(desk, *words: Any) -> None:
                return

        super().__init__(("127.0.0.1", 0), Desk)

    def handle_error(self, *words: Any) -> None:
        return


def ok(desk: Any) -> None:
    desk.send_response(200)
    desk.end_headers()
    desk.wfile.write(b"ok")


@pytest.fixture
def serve(settings: Any) -> Iterator[Callable[..., Endpoint]]:
    settings.OUTBOUND_HOSTS, settings.OUTBOUND_INTERNAL_HOSTS = ["hooks.example"], [INSIDE]
    running = []

    def start(reply: Callable[[Any], None] = ok) -> Endpoint:
        endpoint = Endpoint(reply)
        threading.Thread(target=endpoint.serve_forever, args=[0.05], daemon=True).start()
        running.append(endpoint)
        return endpoint

    yield start
    for endpoint in running:
        endpoint.shutdown()
        endpoint.server_close()


def post(endpoint: Endpoint, **how: Any) -> outbound.Answer:
    url = f"http://{INSIDE}:{endpoint.server_address[1]}/path?a=b"
    return outbound.post(url, b"{}", {"X-Word": "w"}, **{"resolver": lambda *_: ["127.0.0.1"]} | how)


def test_a_named_internal_host_is_reached_by_the_address_that_was_looked_at(serve: Any) -> None:
    endpoint = serve()
    assert post(endpoint) == outbound.Answer(200, b"ok")
    path, headers, body = endpoint.heard[0]
    assert (path, headers["Host"].split(":")[0], headers["X-Word"], body) == ("/path?a=b", INSIDE, "w", b"{}")


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "http://hooks.example/",
        "https://hooks.example:8443/",
        "https://user@hooks.example/",
        "https://hooks.example@evil.example/",
        "https://hooks.example.evil.example/",
        "https://127.0.0.1/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "https://[::1/",
        "hooks.example",
        "",
    ],
)
def test_what_is_not_on_the_list_is_refused_before_its_name_is_asked(serve: Any, url: str) -> None:
    asked: list[str] = []
    serve()
    with pytest.raises(errors.OutboundHostRefused):
        outbound.post(url, b"", {}, resolver=lambda host, _: asked.append(host) or [])
    assert asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.8",
        "172.16.1.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "not an address",
    ],
)
def test_a_public_name_that_leads_inside_is_refused(serve: Any, address: str) -> None:
    serve()
    for found in ([address], ["93.184.216.34", address]):
        with pytest.raises(errors.OutboundAddressRefused):
            outbound.post("https://hooks.example/", b"", {}, resolver=lambda *_, found=found: found)


def test_a_name_is_asked_once_so_that_a_second_answer_gains_nothing(serve: Any) -> None:
    """DNS rebinding: first a good address, then another. Only the one that was looked at is connected to."""
    endpoint, answers = serve(), [["127.0.0.1"], ["203.0.113.9"], ["203.0.113.9"]]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers.pop(0)

    assert post(endpoint, resolver=rebinding).status == 200
    assert asked == [INSIDE]


def test_a_redirect_is_told_and_never_followed(serve: Any) -> None:
    target = serve()

    def away(desk: Any) -> None:
        desk.send_response(302)
        desk.send_header("Location", f"http://{INSIDE}:{target.server_address[1]}/")
        desk.end_headers()

    with pytest.raises(errors.OutboundRedirected):
        post(serve(away))
    assert target.heard == []


def test_an_answer_longer_than_the_cap_is_not_read_to_its_end(serve: Any) -> None:
    written: list[int] = []

    def endless(desk: Any) -> None:
        desk.send_response(200)
        desk.end_headers()
        for _ in range(10_000):
            written.append(desk.wfile.write(b"x" * 10_000))

    with pytest.raises(errors.OutboundTooLarge):
        post(serve(endless))
    assert len(written) < 10_000


@pytest.mark.parametrize("part", ["headers", "body", "nothing"])
def test_an_answer_that_drips_ends_at_the_deadline(serve: Any, part: str) -> None:
    def drip(desk: Any) -> None:
        if part == "body":
            desk.send_response(200)
            desk.end_headers()
        for _ in range(100):
            if part != "nothing":
                desk.wfile.write(b"H")
            time.sleep(0.05)

    with pytest.raises(errors.OutboundTimeout):
        post(serve(drip), seconds=0.4)


def test_a_resolver_that_hangs_ends_at_the_deadline(serve: Any) -> None:
    free = threading.Event()
    with pytest.raises(errors.OutboundTimeout):
        post(serve(), seconds=0.2, resolver=lambda *_: free.wait(5) and [])
    free.set()


def test_nobody_there_and_no_such_name_say_so(serve: Any) -> None:
    gone = serve()
    gone.shutdown()
    gone.server_close()

    def nowhere(*_: Any) -> list[str]:
        raise OSError("no such name")

    for how in ({}, {"resolver": nowhere}, {"resolver": lambda *_: []}):
        with pytest.raises(errors.OutboundUnreachable):
            post(gone, **how)


def test_a_certificate_that_nobody_vouches_for_is_refused(serve: Any, tmp_path: Path) -> None:
    endpoint = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))
    endpoint.socket = context.wrap_socket(endpoint.socket, server_side=True)
    url = f"https://{INSIDE}:{endpoint.server_address[1]}/"
    with pytest.raises(errors.OutboundUnreachable):
        outbound.post(url, b"{}", {}, resolver=lambda *_: ["127.0.0.1"])
    assert endpoint.heard == []


def _certificate(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, INSIDE)])
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    signed = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(INSIDE)]), False).sign(
        key, hashes.SHA256()
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "both.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path
