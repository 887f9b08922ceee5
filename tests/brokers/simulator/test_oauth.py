"""The handshake and the signatures, from the wire and against the published vectors (§1.3)."""

import base64
import time

import pytest

from brokers.simulator import oauth
from tests.brokers.desk import eventually

PRIME = int("ed016e7a503ade7c29060cc6c374296984cced37004e12b6fd104111c4a0712b", 16)
SECRET = bytes.fromhex("be35c67ffb0452d0547c0d929565f7d1404cef05a63b582c496e3c401fd92603")
B = int("b0d05da3a25be9de6aec64fa10adb199a3df941aabed737e43d89d0a1a8e0111", 16)
VECTORS = [
    (
        "2c093bfcaf858b676e8b81070e1f9b9e55f2000fe1e730dc0fe4bfcecc76f2b9",
        "a2007306e162a8e9c69c217a4cd3c157e7a35803",
    ),
    ("3", "3e62820e4e186af272910ebc20a9386a6b773d64"),
    ("a", "4676d1939da349400fecc4d8332ea81402581670"),
    ("162", "ec87ac1d9df41aa0678babe6d60aecbbf234f345"),
    ("20c", "d000a2c86b288cd0f88d4cab7c37cbc84cf84dfa"),
]
STYLES = {
    "A": "8L673l9VhpEZ9wScr5kdBCcuhG1pcUxXMJ5ymAZqvQA=",
    "B": "sfx/4ieDHsnzrbt1JgphRcuWfvl2EnqmrmOB+6rZOLY=",
    "C": "p+phexwnMkIJK1w1JwmcbrLStvBaSXToeEKXW/nJRek=",
}
HEADER = {
    "realm": "limited_poa",
    "oauth_consumer_key": "ZCSGTLJAN",
    "oauth_nonce": "39b86f02-97c8-41ac-8578-b8103e15b096",
    "oauth_signature_method": "HMAC-SHA256",
    "oauth_timestamp": "1772724660",
    "oauth_token": "c69a36406472d1f5b6de",
}


@pytest.mark.parametrize(("a", "signature"), VECTORS)
def test_published_vectors_give_the_published_proof(a, signature):
    token = oauth.derive_token(pow(B, int(a, 16), PRIME), SECRET)
    assert oauth.proof(token, "ZCSGTLJAN") == signature


def test_the_servers_answer_leads_both_sides_to_one_token():
    answer, token = oauth.answer_challenge(f"{pow(2, 99, PRIME):x}", PRIME, SECRET)
    assert oauth.derive_token(pow(int(answer, 16), 99, PRIME), SECRET) == token


@pytest.mark.parametrize("challenge", ["0", "1", f"{PRIME - 1:x}", f"{PRIME:x}"])
def test_a_challenge_that_gives_the_secret_away_is_refused(challenge):
    with pytest.raises(ValueError, match="out of range"):
        oauth.answer_challenge(challenge, PRIME, SECRET)


@pytest.mark.parametrize("style", STYLES)
def test_published_query_signatures_are_among_the_accepted_ones(style):
    token = base64.b64decode("vF0KfK5239p+7JfUbJmqFJFGkCE=")
    url = "https://api.ibkr.com/v1/api/iserver/marketdata/snapshot"
    bases = list(oauth.base_strings("GET", url, "conids=15016128%2C39453424&fields=84%2C86", HEADER))
    assert any(oauth.verify_hmac(token, base, STYLES[style]) for base in bases)


def test_a_token_is_minted_validated_and_lasts_a_day(stranger):
    body = stranger.mint()
    left = body["live_session_token_expiration"] / 1000 - time.time()
    assert 86_000 < left <= 86_400


@pytest.mark.parametrize("style", ["A", "B", "C"])
def test_each_way_to_sign_a_query_is_accepted(stranger, style):
    stranger.mint()
    stranger.style = style
    assert stranger.get("/trsrv/stocks", symbols="AAPL,IBM")["AAPL"][0]["contracts"][0]["conid"] == 265598


def test_localhost_is_as_good_a_base_url_as_the_address(stranger):
    stranger.credentials = {**stranger.credentials}
    stranger.base_url = stranger.base_url.replace("127.0.0.1", "localhost")
    stranger.mint()
    assert len(stranger.get("/portfolio/accounts")) == 2


def test_the_host_header_does_not_decide_what_was_signed(stranger):
    stranger.mint()
    stranger.http.headers["Host"] = "api.ibkr.com"
    assert len(stranger.get("/portfolio/accounts")) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"oauth_token": "0" * 20},
        {"oauth_timestamp": None},
        {"oauth_timestamp": "soon"},
        {"oauth_nonce": None},
        {"oauth_signature_method": "HMAC-SHA1"},
    ],
)
def test_a_request_with_a_wrong_part_is_unauthorized(stranger, change):
    stranger.mint()
    url = f"{stranger.base_url}/portfolio/accounts"
    header = stranger.authorization("GET", url, {}, **change)
    answer = stranger.http.get(url, headers={"Authorization": header})
    assert (answer.status_code, answer.content) == (401, b"")


def test_a_wrong_signature_is_unauthorized(stranger):
    stranger.mint()
    stranger.live_session_token = bytes(20)
    assert stranger.request("GET", "/portfolio/accounts").status_code == 401


def test_a_signature_for_another_path_is_unauthorized(stranger):
    stranger.mint()
    header = stranger.authorization("GET", f"{stranger.base_url}/portfolio/accounts", {})
    answer = stranger.http.get(
        f"{stranger.base_url}/portfolio/subaccounts", headers={"Authorization": header}
    )
    assert answer.status_code == 401


def test_an_unknown_consumer_is_named_so(stranger):
    answer = stranger.mint_request(5, oauth_consumer_key="NOBODYYYY")
    assert answer.status_code == 401
    assert "invalid consumer" in answer.json()["error"]


def test_an_unknown_token_has_no_secret(stranger):
    answer = stranger.mint_request(5, oauth_token="f" * 20)
    assert "No access secret key found for" in answer.json()["error"]


def test_a_wrong_rsa_signature_mints_nothing(stranger):
    other = stranger.credentials["encryption_key_path"]
    stranger.credentials = {**stranger.credentials, "signature_key_path": other}
    assert stranger.mint_request(5).status_code == 401


def test_an_expired_token_is_unauthorized(simulator, stranger):
    simulator.config(session_token_seconds=2)
    stranger.mint()
    simulator.config(session_token_seconds=86_400)
    assert stranger.request("GET", "/portfolio/accounts").status_code == 200
    eventually(lambda: stranger.request("GET", "/portfolio/accounts").status_code == 401)


def test_a_second_token_does_not_end_the_first(stranger):
    stranger.mint()
    first = stranger.live_session_token
    stranger.mint()
    stranger.live_session_token = first
    assert stranger.request("GET", "/portfolio/accounts").status_code == 200


def test_after_logout_the_token_is_dead(stranger):
    stranger.mint()
    assert stranger.post("/logout") == {"status": True}
    assert stranger.request("GET", "/portfolio/accounts").status_code == 401


def test_replays_are_rejected_only_on_request(simulator, stranger):
    stranger.mint()
    url = f"{stranger.base_url}/portfolio/accounts"
    headers = {"Authorization": stranger.authorization("GET", url, {})}
    assert [stranger.http.get(url, headers=headers).status_code for _ in range(2)] == [200, 200]
    simulator.config(reject_replays=True)
    headers = {"Authorization": stranger.authorization("GET", url, {})}
    assert [stranger.http.get(url, headers=headers).status_code for _ in range(2)] == [200, 401]
    simulator.config(reject_replays=False)
