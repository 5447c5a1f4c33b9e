"""Where a run came from: facts of git, the code that ran, and the way back to both. No Lightning in here."""
