"""A server that speaks IBKR's Client Portal Web API: the embedded default broker, and the one tests use.

Plain Python on aiohttp. It shares no code with `brokers.ibkr` and knows nothing of Django, so that a
mistake on one side cannot hide on the other. Facts come from ibkr-web-api.md.
"""
