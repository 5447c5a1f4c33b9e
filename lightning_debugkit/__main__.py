"""``python -m lightning_debugkit``."""

import sys

from lightning_debugkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
