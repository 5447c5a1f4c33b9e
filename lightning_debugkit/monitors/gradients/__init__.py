"""Gradients: whether they arrive, vanish, explode, or are cleared at the wrong time."""
