"""One file a library: small trainings as its documentation has them, and faults of a user."""
