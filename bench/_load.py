"""The load: a process of its own that keeps connections busy with raw sockets, so that it costs the server little.

Reads one JSON object from stdin, `{"kind": "http" | "insert", "connections", "seconds", …}`, and prints one.
"""

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg

from bench._report import percentile

Shot = Callable[[], None]
WARM_UP_SECONDS = 0.5


def main() -> None:
    plan = json.loads(sys.stdin.read())
    make = {"http": http_shot, "insert": insert_shot}[plan["kind"]]
    print(json.dumps(run([make(plan) for _ in range(plan["connections"])], plan["seconds"])))


def run(shots: list[Shot], seconds: float) -> dict[str, float]:
    """Each shot again and again in a thread of its own; what the warm-up did is not counted."""
    took: list[list[float]] = [[] for _ in shots]
    failures: list[BaseException] = []
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds

    def repeat(shot: Shot, mine: list[float]) -> None:
        try:
            while (started := time.perf_counter()) < end:
                shot()
                if started >= begin:
                    mine.append(time.perf_counter() - started)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=repeat, args=pair) for pair in zip(shots, took, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    milliseconds = [1000 * each for mine in took for each in mine]
    return {
        "per_second": len(milliseconds) / seconds,
        "p50_ms": percentile(milliseconds, 50),
        "p99_ms": percentile(milliseconds, 99),
    }


def http_shot(plan: dict[str, Any]) -> Shot:
    """One request on a connection that stays open; every answer must be 200 and hold `expect`."""
    connection = socket.create_connection(("127.0.0.1", plan["port"]), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    expect = plan["expect"].encode()
    lines = [f"{plan['method']} {plan['path']} HTTP/1.1", f"Host: localhost:{plan['port']}", *plan["headers"]]

    def shot() -> None:
        body = json.dumps(plan["body"] | {"idempotency_key": uuid4().hex}).encode() if plan["body"] else b""
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        connection.sendall(head.encode() + body)
        answer = _receive(connection)
        if not answer.startswith(b"HTTP/1.1 200") or expect not in answer:
            raise RuntimeError(answer.decode(errors="replace")[:2000])

    return shot


def _receive(connection: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _more(connection)
    head = answer.partition(b"\r\n\r\n")[0].lower()
    length = re.search(rb"content-length: *(\d+)", head)
    if length is None:
        while not answer.endswith(b"\r\n0\r\n\r\n"):
            answer += _more(connection)
        return answer
    while len(answer) < len(head) + 4 + int(length[1]):
        answer += _more(connection)
    return answer


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionError("the server closed the connection")
    return received


def insert_shot(plan: dict[str, Any]) -> Shot:
    """One row and its commit, by prepared statement on a connection of its own."""
    connection = psycopg.connect(plan["url"], autocommit=True, prepare_threshold=0)
    row = json.dumps(plan["row"])

    def shot() -> None:
        connection.execute("INSERT INTO bench_floor (id, row) VALUES (%s, %s)", [uuid4(), row])

    return shot


if __name__ == "__main__":
    main()
