"""Trying a set of keys at the broker: before it is used, without disturbing the session in use; and after.

Each function is one look and raises what the broker said: BrokerUnavailable says nothing about the keys.
"""

import asyncio
import time
from decimal import Decimal

from brokers.base import Broker, OrderTerms, OrderType, SessionToken, Side, TimeInForce
from brokers.credentials import load_credentials, open_credential
from brokers.models import Account, BrokerInstrument, Credential, Login, SessionState
from brokers.relay_rows import read_plan
from brokers.services import broker_for, client_for, session_token
from brokers.sessions import Turn, look_now
from cerbero.errors import BrokerRejected, BrokerUnavailable, CannotDecrypt, SessionExpired, StreamLost

STREAM_SECONDS = 5.0
# Asked for the what-if where no instrument is known yet.
ANY_SYMBOL, ANY_CLASS, STOCKS = "AAPL", "stock", ("STK", "stock")


def try_keys(credential: Credential) -> SessionToken:
    """Decrypt the secret, mint and validate a live session token, and read the accounts with it.

    Raises SessionExpired when the broker does not take the set, BrokerRejected when it opens other accounts than
    the login's, BrokerUnavailable, or CannotDecrypt.
    """
    login = credential.login
    with client_for(login, open_credential(credential), None) as client:
        token = client.mint()
        opened = set(client.readable_accounts())
    known = set(Account.objects.filter(login=login).values_list("broker_account_id", flat=True))
    if known and not known & opened:
        raise BrokerRejected(
            "These keys open other accounts than this login's: they are of another username."
        )
    return token


def set_in_use_opens(login: Login) -> bool:
    """Whether the keys in use still open the login: by the running session, else by another mint.

    Raises BrokerUnavailable when the broker cannot be asked.
    """
    row = Login.objects.get(pk=login.pk)
    try:
        with client_for(row, load_credentials(row), session_token(row)) as client:
            try:
                client.readable_accounts()
            except SessionExpired:
                client.mint()
    except (SessionExpired, CannotDecrypt):
        return False
    return True


def prove_in_use(turn: Turn, deadline: float) -> None:
    """The session, a read, a what-if and the stream, all with the keys in use; `deadline` by time.monotonic().

    Raises SessionExpired, BrokerRejected, BrokerUnavailable or StreamLost for the first that does not work.
    """
    login = look_now(turn)
    if login.state != SessionState.UP:
        raise SessionExpired(f"The session is not up: {login.get_state_display()}. {login.state_detail}")
    with broker_for(login) as broker:
        _within(deadline)
        account = Account.objects.filter(login=login).order_by("broker_account_id").first()
        if account is None:
            raise BrokerRejected("The broker lists no account under this login.")
        broker.positions(account.broker_account_id)
        _within(deadline)
        ask_what_if(broker, login, account)
    _within(deadline)
    _hear_stream(login)


def ask_what_if(broker: Broker, login: Login, account: Account) -> None:
    known = BrokerInstrument.objects.filter(broker=login.broker, instrument__asset_class__in=STOCKS)
    instrument_id = known.values_list("broker_instrument_id", flat=True).first()
    if instrument_id is None:
        instrument_id = broker.find_instruments(ANY_SYMBOL, ANY_CLASS)[0].broker_instrument_id
    terms = OrderTerms(
        broker_instrument_id=instrument_id,
        side=Side.BUY,
        quantity=Decimal(1),
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.DAY,
    )
    try:
        broker.preview(account.broker_account_id, [terms])
    except BrokerRejected:
        # It was read and answered: what it thinks of this order is not asked.
        return


def _hear_stream(login: Login) -> None:
    plan = read_plan(login)
    if plan is None:
        raise SessionExpired("There is no session to hear a stream with.")

    async def first_event() -> None:
        async with asyncio.timeout(STREAM_SECONDS):
            async with plan.stream() as stream:
                await anext(stream.events())

    try:
        asyncio.run(first_event())
    except TimeoutError:
        raise StreamLost("The broker's stream says nothing.") from None


def _within(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise BrokerUnavailable("The proof takes too long.")
