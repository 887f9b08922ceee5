"""IBKR's reads beside the order path, one module for each family of endpoints."""

from brokers.ibkr.account_reads import AccountReads
from brokers.ibkr.contract_reads import ContractReads
from brokers.ibkr.market_reads import MarketReads


class IbkrReads(AccountReads, ContractReads, MarketReads):
    """The reads of one login, over its wire."""
