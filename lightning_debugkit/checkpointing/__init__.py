"""What the checkpoint callback is made of: moments, metrics, the way through the strategy, and its findings."""
