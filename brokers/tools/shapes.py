"""How a reading tool is asked: through which account's login, and for which instrument."""

from typing import Annotated, Self

from pydantic import StringConstraints, model_validator

from brokers.asking import account_for, broker_ids, login_for
from brokers.models import Login
from cerbero.access import Actor
from cerbero.tool import Params

AccountId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,32}$")]
Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9. /-]{1,32}$")]
BrokerId = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,14}$")]


# So long an account's figures are not asked anew: orders need the login's ten requests a second, too.
FRESH_SECONDS = 2


class Everything(Params):
    """Takes nothing."""


class OfAccount(Params):
    """One account of your environment."""

    account: AccountId

    def login(self, actor: Actor) -> Login:
        return account_for(actor, self.account).login


class ThroughLogin(Params):
    """`account` chooses the login; without it the first of your environment that is up."""

    account: AccountId | None = None

    def login(self, actor: Actor) -> Login:
        return login_for(actor, self.account)


class NamesInstrument(Params):
    """One instrument: a symbol that Cerbero knows, or the broker's id from `resolve_contract`."""

    symbol: Symbol | None = None
    broker_instrument_id: BrokerId | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.symbol is None) == (self.broker_instrument_id is None):
            raise ValueError("name a symbol or a broker_instrument_id, and not both")
        return self

    def broker_id(self, login: Login) -> str:
        if self.broker_instrument_id is not None:
            return self.broker_instrument_id
        return next(iter(broker_ids(login, [self.symbol or ""]).values()))


class OfInstrument(NamesInstrument, ThroughLogin):
    """One instrument, through the login of an account or through the first that is up."""


class OfHolding(NamesInstrument, OfAccount):
    """One instrument in one account."""
