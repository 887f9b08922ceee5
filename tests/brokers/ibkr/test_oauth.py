"""The published vectors of ibkr-web-api.md §1.3, all of them."""

import base64

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from brokers.ibkr import oauth
from brokers.ibkr.auth import TokenExchange
from cerbero.errors import SessionExpired

PRIME = int("ed016e7a503ade7c29060cc6c374296984cced37004e12b6fd104111c4a0712b", 16)
SECRET = bytes.fromhex("be35c67ffb0452d0547c0d929565f7d1404cef05a63b582c496e3c401fd92603")
CONSUMER = "ZCSGTLJAN"
RESPONSE = int("b0d05da3a25be9de6aec64fa10adb199a3df941aabed737e43d89d0a1a8e0111", 16)
NONCE, TIMESTAMP, TOKEN = "39b86f02-97c8-41ac-8578-b8103e15b096", 1772724660, "c69a36406472d1f5b6de"
BASE = "https://api.ibkr.com/v1/api"

# exponent, K, length of K's bytes, live session token, its signature
VECTORS = {
    "256 bits, a leading zero byte": (
        "2c093bfcaf858b676e8b81070e1f9b9e55f2000fe1e730dc0fe4bfcecc76f2b9",
        "8d150c0e633a2aa00ee9d2da768e3717be0b7dba6a6e10f9e8b18c11ef89d0c0",
        33,
        "vF0KfK5239p+7JfUbJmqFJFGkCE=",
        "a2007306e162a8e9c69c217a4cd3c157e7a35803",
    ),
    "254 bits": (
        "3",
        "3913cc154bef8fd24e5df92732a8b94d3b3f6766c0f41d61637329bedce84fe3",
        32,
        "HmjOfm3RkwP27DAo+FBtPuNI3io=",
        "3e62820e4e186af272910ebc20a9386a6b773d64",
    ),
    "252 bits, odd hex": (
        "a",
        "ca05670ba133e2e5c0d71d0a752f28293886b249a4d623d5cc920dfaac24fdd",
        32,
        "WHFr9W6ldKBkGx7T+FFBiRS3wqc=",
        "4676d1939da349400fecc4d8332ea81402581670",
    ),
    "248 bits, a leading zero byte": (
        "162",
        "c0fa7916ba680350c704419bf5efa8016720462c9e2474c82c713728fd0791",
        32,
        "Y11bwRZcpMhCu+vK801Mll6h2Gk=",
        "ec87ac1d9df41aa0678babe6d60aecbbf234f345",
    ),
    "247 bits": (
        "20c",
        "4bb8ec6b9be902e8626ff324dde60372cf5cb5d00c7c43d7e5f49693b73a2a",
        31,
        "5jr+3ODZIg0ZWPaDadqGgtybsaM=",
        "d000a2c86b288cd0f88d4cab7c37cbc84cf84dfa",
    ),
}


def credentials(**changes):
    fields = {
        "consumer_key": CONSUMER,
        "access_token": TOKEN,
        "access_token_secret": "",
        "dh_prime": PRIME,
        "signature_key_pem": b"",
        "encryption_key_pem": b"",
    }
    return oauth.IbkrCredentials(**{**fields, **changes})


@pytest.mark.parametrize("name", VECTORS)
def test_each_published_token_is_reproduced(name):
    exponent, shared_hex, length, token_base64, signature = VECTORS[name]
    shared = oauth.shared_key(PRIME, int(exponent, 16), RESPONSE)
    assert format(shared, "x") == shared_hex
    assert len(oauth.key_bytes(shared)) == length
    token = oauth.live_session_token(shared, SECRET)
    assert base64.b64encode(token).decode() == token_base64
    assert oauth.token_is_valid(token, CONSUMER, signature)
    assert not oauth.token_is_valid(token, CONSUMER, signature[::-1])


@pytest.mark.parametrize(
    ("shared", "expected"), [(0x7F, "7f"), (0x80, "0080"), (0xFF, "00ff"), (0x100, "0100")]
)
def test_key_bytes_are_minimal_and_signed(shared, expected):
    assert oauth.key_bytes(shared).hex() == expected


def test_the_challenge_is_lower_case_hex():
    exponent = int(VECTORS["256 bits, a leading zero byte"][0], 16)
    expected = "7d04de39dec12123f206ba594052de12115dc493fa70b1b7497f640d6f6574f"
    assert oauth.challenge(PRIME, exponent) == expected


def test_the_token_request_signs_the_published_base_string():
    exponent = int(VECTORS["256 bits, a leading zero byte"][0], 16)
    params = oauth.token_request_params(credentials(), exponent, NONCE, TIMESTAMP)
    found = oauth.base_string("POST", f"{BASE}/oauth/live_session_token", params, prepend=SECRET.hex())
    assert found == (
        "be35c67ffb0452d0547c0d929565f7d1404cef05a63b582c496e3c401fd92603POST&https%3A%2F%2Fapi.ibkr.com"
        "%2Fv1%2Fapi%2Foauth%2Flive_session_token&diffie_hellman_challenge%3D7d04de39dec12123f206ba594052"
        "de12115dc493fa70b1b7497f640d6f6574f%26oauth_consumer_key%3DZCSGTLJAN%26oauth_nonce%3D39b86f02-"
        "97c8-41ac-8578-b8103e15b096%26oauth_signature_method%3DRSA-SHA256%26oauth_timestamp%3D1772724660"
        "%26oauth_token%3Dc69a36406472d1f5b6de"
    )


def test_an_ordinary_request_carries_the_published_header():
    token = base64.b64decode(VECTORS["256 bits, a leading zero byte"][3])
    header = oauth.sign_request("GET", f"{BASE}/portfolio/accounts", credentials(), token, NONCE, TIMESTAMP)
    assert header == (
        'OAuth realm="limited_poa", oauth_consumer_key="ZCSGTLJAN", '
        'oauth_nonce="39b86f02-97c8-41ac-8578-b8103e15b096", '
        'oauth_signature="pGZmvkJV0M51YixJNWayeKaMUr3YtXFmhx%2FyvVZAZPw%3D", '
        'oauth_signature_method="HMAC-SHA256", oauth_timestamp="1772724660", '
        'oauth_token="c69a36406472d1f5b6de"'
    )


def test_a_query_is_not_part_of_what_is_signed():
    token = base64.b64decode(VECTORS["256 bits, a leading zero byte"][3])
    header = oauth.sign_request(
        "GET", f"{BASE}/iserver/marketdata/snapshot", credentials(), token, NONCE, TIMESTAMP
    )
    assert "8L673l9VhpEZ9wScr5kdBCcuhG1pcUxXMJ5ymAZqvQA%3D" in header


def test_only_the_test_consumer_uses_the_test_realm():
    assert oauth.realm_for("TESTCONS") == "test_realm"
    assert oauth.realm_for(CONSUMER) == "limited_poa"


def test_no_secret_shows_in_a_repr():
    text = repr(
        credentials(access_token_secret="s3cret", signature_key_pem=b"PEM", encryption_key_pem=b"PEM")
    )
    assert "s3cret" not in text
    assert "PEM" not in text
    assert TOKEN not in text
    assert str(PRIME) not in text


@pytest.mark.parametrize("response", [0, 1, PRIME - 1, PRIME, PRIME + 1])
def test_a_response_that_makes_the_key_guessable_is_refused(response):
    with pytest.raises(oauth.InvalidKey):
        oauth.shared_key(PRIME, 3, response)


@pytest.fixture(scope="module")
def key_pair():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def exchange(key_pair):
    sealed = base64.b64encode(key_pair.public_key().encrypt(SECRET, padding.PKCS1v15())).decode()
    full = credentials(
        access_token_secret=sealed, signature_key_pem=pem(key_pair), encryption_key_pem=pem(key_pair)
    )
    return TokenExchange.begin(full, f"{BASE}/oauth/live_session_token")


def answer(header, exponent=7):
    """What a server that holds the same secret and prime would answer."""
    theirs = int(header.split('diffie_hellman_challenge="')[1].split('"')[0], 16)
    token = oauth.live_session_token(pow(theirs, exponent, PRIME), SECRET)
    return (
        token,
        format(pow(2, exponent, PRIME), "x"),
        oauth.hmac.digest(token, CONSUMER.encode(), "sha1").hex(),
    )


def test_both_sides_of_the_exchange_reach_the_same_token(key_pair):
    begun = exchange(key_pair)
    token, response, signature = answer(begun.header)
    assert begun.finish(response, signature) == token
    assert begun.finish(response, signature.upper()) == token


def test_a_token_that_does_not_validate_is_refused(key_pair):
    begun = exchange(key_pair)
    _, response, _ = answer(begun.header)
    with pytest.raises(SessionExpired) as refused:
        begun.finish(response, "00" * 20)
    assert refused.value.details["reason"] == "token_mismatch"


def test_a_response_that_is_no_number_is_refused(key_pair):
    with pytest.raises(SessionExpired) as refused:
        exchange(key_pair).finish("not hex", "00" * 20)
    assert refused.value.details["reason"] == "bad_dh_response"


def test_the_exchange_shows_no_secret(key_pair):
    begun = exchange(key_pair)
    assert SECRET.hex() not in repr(begun)
    assert str(begun.exponent) not in repr(begun)


def test_the_rsa_signature_verifies_with_the_public_half(key_pair):
    signature = base64.b64decode(oauth.rsa_signature("text", key_pair))
    key_pair.public_key().verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())


def test_a_key_that_is_not_rsa_is_refused():
    with pytest.raises(oauth.InvalidKey):
        oauth.private_key(pem(ec.generate_private_key(ec.SECP256R1())))
