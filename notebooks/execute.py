"""Execute notebooks in place, so that outputs are seen where people look first: python notebooks/execute.py [FILE ...]

Lines that say nothing of the story (Lightning's on devices and tips) and paths of the machine are left out.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

_NOISE = re.compile(
    r"GPU available|TPU available|💡 Tip|`Trainer\.|Seed set|LOCAL_RANK|IPKernelApp|warnings\.warn|notebook_tqdm"
    r"|/site-packages/"
)
_SCRATCH = re.compile(rf"{re.escape(tempfile.gettempdir())}/\w+/")


def execute(path: Path, seconds: int = 600) -> Any:
    """Return the notebook, executed from its first cell to its last in an empty folder, its outputs tidied."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=seconds, resources={"metadata": {"path": folder}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs = [tidied for out in cell.outputs if (tidied := _tidied(out, Path(folder))) is not None]
    notebook.metadata.pop("language_info", None)
    return notebook


def _tidied(output: Any, folder: Path) -> Any:
    roots = sorted({str(folder), str(folder.resolve())}, key=len, reverse=True)

    def short(text: str) -> str:
        for root in roots:
            text = text.replace(f"{root}/", "").replace(root, ".")
        return _SCRATCH.sub("", text)

    if output.output_type == "stream":
        if "\r" in output.text:  # a progress bar
            return None
        lines = [line for line in output.text.splitlines(keepends=True) if not _NOISE.search(line)]
        output.text = short("".join(lines))
        return output if output.text.strip() else None
    data = output.get("data", {})
    for kind in ("text/html", "text/plain", "text/markdown"):
        if isinstance(data.get(kind), str):
            data[kind] = short(data[kind])
    return output


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(map(str, Path(__file__).parent.glob("*.ipynb"))):
        nbformat.write(execute(Path(name)), name)
        print(f"{name}: {Path(name).stat().st_size // 1000} kB", flush=True)
