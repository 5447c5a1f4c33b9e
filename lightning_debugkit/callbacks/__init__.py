"""The only room that imports Lightning; one capability a file."""
