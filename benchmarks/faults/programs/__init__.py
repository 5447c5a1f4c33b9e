"""One program a file: the fault, and by ``mended=True`` its twin without it. Never tuned on."""
