"""Every way to say no.

    CerberoError
    ├── door: BadInput, BotTagMissing, NotAuthenticated, ScopeMissing, …
    ├── gate: StateConflict, IdempotencyConflict, RiskRefused, TradingHalted, …
    └── wire: CannotDecrypt, OutboundTimeout, …, BrokerError
        ├── BrokerUnavailable   certainly not sent
        ├── OutcomeUnknown      perhaps sent
        ├── BrokerRejected      the broker said no
        └── SessionExpired      certainly not processed, the session must be brought up again

The docstring is the message; what the caller needs to act stands in `details`. Import from here.
"""

from cerbero.errors.base import *
from cerbero.errors.door import *
from cerbero.errors.gate import *
from cerbero.errors.wire import *
