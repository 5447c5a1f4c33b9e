"""``python -m lightning_debugkit``."""

import sys

from lightning_debugkit.cli import main

sys.exit(main())
