"""People, bots, tokens, and the decisions that people took."""
