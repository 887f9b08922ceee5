"""IBKR's reads beside the order path, one module for each family of endpoints."""

from brokers.ibkr.account_reads import AccountReads
from brokers.ibkr.contract_reads import ContractReads


class IbkrReads(AccountReads, ContractReads):
    """The reads of one login, over its wire."""
