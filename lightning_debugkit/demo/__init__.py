"""A training run that breaks on real images, and the report that explains it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from lightning_debugkit.core.switch import VARIABLE


def run_demo(folder: Path) -> Path:
    """Copy the demo's training script into ``folder``, run it there until it breaks, and return its run folder.

    Raises:
        ModuleNotFoundError: scikit-learn, whose digits the demo trains on, is not installed.
        RuntimeError: The script did not get as far as its fault; the message has its last words.
    """
    if find_spec("sklearn") is None:
        raise ModuleNotFoundError("The demo trains on scikit-learn's digits; pip install 'lightning-debugkit[demo]'.")
    folder.mkdir(parents=True, exist_ok=True)
    script = Path(shutil.copyfile(Path(__file__).with_name("train.py"), folder / "train.py"))
    before = set(folder.glob("debugkit*"))
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}  # which may turn the kit off
    command = [sys.executable, script.name]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    (folder / "train.log").write_text(done.stdout + done.stderr)
    made = sorted(set(folder.glob("debugkit*")) - before)
    if not made:
        raise RuntimeError(f"The demo's training did not start; its last words:\n{done.stderr[-1500:]}")
    return made[-1]
