"""Parameters: whether they are registered, held by an optimizer, loaded, alike on all ranks."""
