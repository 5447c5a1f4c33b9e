"""Facts of git, the tree of a run, and the side references that keep it."""
