"""What the loaders give."""
