"""How predictions and targets of a batch reach a callback, with no change to a usual module."""
