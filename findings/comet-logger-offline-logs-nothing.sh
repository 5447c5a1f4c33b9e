#!/usr/bin/env bash
# lightning 2.6.6 with comet-ml 3.58.4 (torch 2.13.0, Python 3.11): CometLogger(online=False, offline_directory=...) keeps
# nothing: no number is stored and no archive is left, without a warning, though its docstring says of online that data
# "will be stored locally in an offline experiment" (pytorch/loggers/comet.py 186-187). Its lines 274-275 put
# `disabled=True` into the ExperimentConfig. Known: https://github.com/Lightning-AI/pytorch-lightning/issues/21617.
# Seen: a disabled experiment and an empty folder; the same logger without online=False, under COMET_START_ONLINE=0, is
# not disabled and leaves an archive for `comet upload`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q lightning==2.6.6 comet-ml==3.58.4
cat > "$folder/program.py" <<'PROGRAM'
import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

from lightning.pytorch.loggers import CometLogger


def logged(name, **options):
    """Whether the experiment is disabled, and the archives that it leaves."""
    directory = Path(sys.argv[1]) / name
    directory.mkdir()
    logger = CometLogger(project="trial", offline_directory=str(directory), **options)
    logger.log_metrics({"loss": 1.0}, step=1)
    disabled = logger.experiment.disabled
    logger.experiment.end()
    archives = [path.suffix for path in directory.iterdir()]
    print(f"{name}: disabled: {disabled}, files: {archives}")
    return disabled, archives


by_argument = logged("online=False", online=False)
os.environ["COMET_START_ONLINE"] = "0"
by_variable = logged("COMET_START_ONLINE=0")
assert by_argument == (True, []), "online=False stores something now"
assert by_variable == (False, [".zip"]), "COMET_START_ONLINE=0 has changed"
PROGRAM
COMET_LOGGING_CONSOLE=CRITICAL "$folder/venv/bin/python" "$folder/program.py" "$folder"
