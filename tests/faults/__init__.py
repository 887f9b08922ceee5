"""The fault harness: real processes, a broker on its bad days, and a judge that compares ledger and book."""
