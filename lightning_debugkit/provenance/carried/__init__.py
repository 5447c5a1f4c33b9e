"""The code that a checkpoint carries: its form, and the way back to files."""
