"""A project in a temporary folder, trained by a process of its own, whose checkpoints carry its code."""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import warm_process

import lightning_debugkit
from lightning_debugkit.provenance.carried.archive import pack
from lightning_debugkit.provenance.carried.manifest import KEY, Manifest, embedded

KIT = Path(lightning_debugkit.__file__).parent.parent

# What a run does in the end; `trained` needs no data set.
SAVING = '''
import sys
from pathlib import Path
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader
from lightning_debugkit.provenance.capture import project_modules as modules, sources as source
from lightning_debugkit.provenance.carried.manifest import FORMAT, KEY, Manifest, embedded

def manifest_of(model_class, include=()):
    main = modules.main_file()
    root = modules.project_root(model_class, main, None)
    taken = source.collect(root, modules.project_modules(root, main), main, include)
    facts = {"format": FORMAT, "id": "20261121-101500-abcdef", "environment": {"arguments": sys.argv}}
    parts = {"source": taken.part(), "model": taken.part_of_model(model_class)}
    return Manifest({**facts, **parts}), taken.zip

def trained(model, to, call=None, **probes):
    """Fit two steps, save a checkpoint with the code, and what the model answers to an input."""
    torch.manual_seed(1)
    given = torch.randn(8, 3)
    trainer = Trainer(max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, accelerator="cpu")
    trainer.fit(model, DataLoader(given, batch_size=4))
    manifest, zipped = manifest_of(type(model))
    held = embedded(manifest, zipped)
    trainer.strategy.connect(model)
    whole = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    torch.save({**whole, KEY: held}, to)
    model.eval()
    torch.save({"given": given, "answer": model(given).detach(), **probes}, Path(to).with_suffix(".told"))
'''


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write ``files`` below ``root``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return root


def run(root: Path, *arguments: str, path: tuple[Path, ...] = (), timeout: float = 240) -> str:
    """Run Python in ``root``; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (*path, KIT, root / "saving")))
    environment["OMP_NUM_THREADS"] = "1"
    write(root, {"saving/saving_for_tests.py": SAVING})
    done = subprocess.run(
        [warm_process.python(), *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def carrying(files: Mapping[str, bytes], **parts: Any) -> dict[str, Any]:
    """Return what a checkpoint carries under its key, made by hand."""
    import hashlib

    listed = [
        {
            "path": path,
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "kind": "module" if path.endswith(".py") else "data",
            "module": path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            if path.endswith(".py")
            else None,
        }
        for path, data in files.items()
    ]
    source = {"root": "/nowhere", "import_roots": [""], "main": None, "files": listed, "skipped": []}
    manifest = Manifest({"format": 1, "id": "made-by-hand", "source": source, **parts})
    return {KEY: embedded(manifest, pack(files))}
