"""The watches of the gradient anomaly detector: each finds the faults of one mechanism."""
