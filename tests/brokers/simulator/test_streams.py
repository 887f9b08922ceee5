"""The websocket (§7)."""

import json
import time

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.brokers.simulator.test_orders import accepted, marketable

AAPL = 265598


@pytest.fixture
def socket(client, simulator):
    simulator.config(heartbeat_seconds=0.3, conflation_seconds=0.1, stream_seconds=900, binary_frames=False)
    with client.stream() as socket:
        yield socket


def frames(socket, wanted, seconds=60.0):
    """Frames of a topic until `wanted(list)` holds."""
    found, deadline = [], time.monotonic() + seconds
    while not wanted(found):
        left = deadline - time.monotonic()
        assert left > 0, found
        frame = json.loads(socket.recv(timeout=left))
        found.append(frame)
    return found


def of_topic(topic, count=1):
    return lambda found: sum(str(f.get("topic", "")).startswith(topic) for f in found) >= count


def silent(socket, seconds):
    """All frames within a time."""
    found, deadline = [], time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            found.append(json.loads(socket.recv(timeout=left)))
        except TimeoutError:
            break
    return found


def heard(socket):
    """Everything that was sent before the simulator heard us: it answers one after the other."""
    socket.send("tic")
    return frames(socket, of_topic("tic"))


def falls_silent(socket, *, but="nothing", seconds=0.6):
    """Wait until nothing arrives for a time but frames that have a key."""
    deadline = time.monotonic() + 60
    while not all(but in frame for frame in silent(socket, seconds)):
        assert time.monotonic() < deadline, "it goes on"


def test_the_first_frames_say_who_and_how(socket, client):
    system, act, sts = frames(socket, of_topic("sts"))
    assert system == {"topic": "system", "success": system["success"], "isFT": False, "isPaper": True}
    assert act["args"]["accounts"] == client.credentials["accounts"]
    assert sts["args"]["authenticated"] is True


def test_heartbeats_and_tic(socket):
    began = int(time.time() * 1000)
    beats = frames(socket, lambda found: any(f.get("hb", 0) >= began for f in found))
    assert beats[-1]["hb"] <= time.time() * 1000
    socket.send("tic")
    assert frames(socket, of_topic("tic"))[-1]["alive"] is True


def test_quotes_are_full_first_and_then_only_changes(socket):
    socket.send('smd+265598+{"fields":["31","84","86","55"]}')
    found = [f for f in frames(socket, of_topic("smd", 3)) if str(f["topic"]).startswith("smd")]
    assert found[0]["topic"] == "smd+265598"
    assert {"31", "84", "86", "55", "6509", "conid", "_updated"} <= set(found[0])
    assert "55" not in found[1]
    socket.send("umd+265598+{}")
    heard(socket)
    assert not any(str(f["topic"]).startswith("smd") for f in silent(socket, 0.5))


def test_a_stream_ends_by_itself_after_its_time(socket, simulator):
    simulator.config(stream_seconds=0.3)
    socket.send('smd+265598+{"fields":["31","84"]}')
    frames(socket, of_topic("smd"))
    falls_silent(socket, but="hb")


def test_an_orders_life_arrives_as_captured(socket, client):
    socket.send("sor+{}")
    heard(socket)
    order_id = int(accepted(client.place(marketable(client))))

    def rows(found):
        rows = [row for f in found if f.get("topic") == "sor" for row in f["args"]]
        return [row for row in rows if row.get("orderId") == order_id]

    got = rows(frames(socket, lambda found: any(r.get("status") == "Filled" for r in rows(found))))
    assert got[0]["status"] == "Inactive"
    assert got[0]["timeInForce"] == "CLOSE"
    assert "status" not in got[1]
    assert [r["status"] for r in got[2:5]] == ["PendingSubmit", "PreSubmitted", "Submitted"]
    assert got[-1]["filledQuantity"] == 10.0


def test_no_existing_order_is_sent_on_subscribe(socket, client):
    client.place(client.ticket())
    socket.send("sor+{}")
    assert not any(f.get("topic") == "sor" for f in silent(socket, 0.5))


def test_trades_come_twice_first_without_commission(socket, client):
    socket.send('str+{"realtimeUpdatesOnly": true}')
    assert frames(socket, of_topic("str"))[-1]["args"] == []
    order_id = int(accepted(client.place(marketable(client, quantity=1))))
    found = frames(socket, of_topic("str", 2))
    rows = [row for f in found if f.get("topic") == "str" for row in f["args"]]
    assert [("commission" in row, row["order_id"]) for row in rows] == [(False, order_id), (True, order_id)]
    assert rows[0]["execution_id"] == rows[1]["execution_id"]


def test_account_topics(socket, client):
    socket.send("spl")
    assert "nl" in frames(socket, of_topic("spl"))[-1]["args"][f"{client.account}.Core"]
    socket.send(f"ssd+{client.account}")
    assert frames(socket, of_topic("ssd"))[-1]["topic"] == f"ssd+{client.account}"
    socket.send(f"sld+{client.account}+" + '{"keys":["LedgerListBASE"]}')
    assert frames(socket, of_topic("sld"))[-1]["result"][0]["secondKey"] == "BASE"
    socket.send(f"usd+{client.account}" + "+{}")
    frames(socket, lambda found: {"result": "unsubscribed from summary"} in found)


def test_history_ladder_and_nonsense(socket, client):
    socket.send('smh+265598+{"period":"1d","bar":"1h"}')
    assert frames(socket, of_topic("smh"))[-1]["data"]
    socket.send(f"sbd+{client.account}+265598")
    assert frames(socket, of_topic("sbd"))[-1]["data"][2]["bid"]
    socket.send("xyz+1+{}")
    assert frames(socket, lambda found: any("error" in f for f in found))


def test_without_a_brokerage_session_orders_cannot_be_streamed(socket, simulator):
    simulator.control("POST", "/_sim/session", {"drop": "brokerage"})
    assert {"topic": "sts", "args": {"authenticated": False}} in frames(socket, of_topic("sts", 2))
    socket.send("sor+{}")
    refused = {"error": "unable to subscribe", "code": 500, "topic": "sor"}
    frames(socket, lambda found: refused in found)


def test_the_night_reset_leaves_heartbeats_and_nothing_else(socket, simulator):
    socket.send('smd+265598+{"fields":["31","84"]}')
    frames(socket, of_topic("smd"))
    simulator.control("POST", "/_sim/night_reset", {})
    falls_silent(socket, but="hb")
    frames(socket, lambda found: any("hb" in f for f in found))


def test_a_stalled_stream_is_silent_and_recovers(socket, simulator):
    simulator.fault("stalled_stream", seconds=2)
    falls_silent(socket)
    frames(socket, lambda found: any("hb" in f for f in found))


def test_a_stalled_stream_may_keep_its_heartbeat(socket, simulator):
    socket.send('smd+265598+{"fields":["31","84"]}')
    frames(socket, of_topic("smd"))
    simulator.fault("stalled_stream", seconds=60, heartbeats=True)
    falls_silent(socket, but="hb")
    frames(socket, lambda found: any("hb" in f for f in found))


def test_frames_can_be_binary(socket, simulator):
    simulator.config(binary_frames=True)
    frames(socket, of_topic("sts"))
    assert isinstance(socket.recv(timeout=60), bytes)


def test_subscriptions_die_with_the_connection(client, simulator):
    simulator.config(heartbeat_seconds=0.3, conflation_seconds=0.1)
    with client.stream() as first:
        first.send('smd+265598+{"fields":["31","84"]}')
        frames(first, of_topic("smd"))
    with client.stream() as second:
        assert not any(str(f["topic"]).startswith("smd") for f in silent(second, 0.6))


def test_sockets_can_be_dropped(socket, simulator):
    frames(socket, of_topic("sts"))
    simulator.control("POST", "/_sim/session", {"drop": "streams"})
    with pytest.raises(Exception, match="close"):
        silent(socket, 60)


def test_without_the_cookie_the_server_waits_for_the_session(client):
    session = client.post("/tickle")["session"]
    url = f"{client.credentials['ws_url']}?oauth_token={client.credentials['access_token']}"
    with connect(url, proxy=None) as socket:
        assert json.loads(socket.recv(timeout=60)) == {"message": "waiting for session"}
        socket.send(json.dumps({"session": session}))
        assert json.loads(socket.recv(timeout=60))["topic"] == "system"


def test_an_unknown_access_token_cannot_connect(client):
    with pytest.raises(InvalidStatus):
        connect(f"{client.credentials['ws_url']}?oauth_token={'0' * 20}", proxy=None)
    assert httpx.get(f"{client.base_url}/ws", params={"oauth_token": "x"}).status_code == 401
