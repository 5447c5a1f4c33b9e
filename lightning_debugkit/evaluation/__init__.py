"""How good the model is, what limits it and what it confuses."""
