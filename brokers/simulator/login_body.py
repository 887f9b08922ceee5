"""The body of GET /iserver/accounts, which is also the `act` frame (ibkr-web-api.md §2.2)."""

from typing import TYPE_CHECKING, Any

from .sessions import SERVER

if TYPE_CHECKING:
    from .simulator import Simulator

ACCOUNT_PROPERTIES = {
    "hasChildAccounts": False,
    "supportsCashQty": True,
    "liteUnderPro": False,
    "noFXConv": False,
    "isProp": False,
    "supportsFractions": True,
    "allowCustomerTime": False,
    "autoFx": False,
}
FEATURES_ON = (
    "showGFIS", "allowEventContract", "allowFXConv", "allowMTA", "allowTypeAhead", "allowEventTrading",
    "showWebNews", "research", "debugPnl", "showTaxOpt", "showImpactDashboard", "allowCrypto",
)  # fmt: skip
FEATURES_OFF = (
    "showEUCostReport", "allowFinancialLens", "liteUser", "allowDynAccount", "allowFA", "allowLiteUnderPro",
    "restrictTradeSubscription", "showUkUserLabels", "sideBySide",
)  # fmt: skip
ASSET_TYPES = (
    "STK,CFD,OPT,FOP,WAR,FUT,BAG,PDC,CASH,IND,BOND,BILL,FUND,SLB,News,CMDTY,IOPT,ICU,ICS,PHYSS,CRYPTO"
)
FULL_CHARTS = ("STK", "CFD", "WAR", "IOPT", "FUT", "CASH", "IND", "BOND", "FUND", "CMDTY", "PHYSS", "CRYPTO")


def accounts_body(sim: "Simulator") -> dict[str, Any]:
    """GET /iserver/accounts and the `act` frame."""
    ids = sim.registrations.accounts
    limited = ["2h", "1d", "2d", "1w", "1m"]
    features: dict[str, Any] = dict.fromkeys(FEATURES_ON, True) | dict.fromkeys(FEATURES_OFF, False)
    return {
        "accounts": ids,
        "acctProps": {account: ACCOUNT_PROPERTIES for account in ids},
        "aliases": {account: account for account in ids},
        "allowFeatures": features | {"snapshotRefreshTimeout": 30, "allowedAssetTypes": ASSET_TYPES},
        "chartPeriods": {kind: ["*"] for kind in FULL_CHARTS} | {"OPT": limited, "FOP": limited},
        "groups": [],
        "profiles": [],
        "selectedAccount": sim.session.selected_account,
        "serverInfo": SERVER,
        "sessionId": f"{sim.session.session_id[:8]}.{sim.session.session_id[8:16]}",
        "isFT": False,
        "isPaper": not sim.registrations.live,
    }
