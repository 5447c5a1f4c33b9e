"""A hook of MkDocs: what the pages link to outside of ``docs/`` is part of the site, too."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]


def on_files(files: Files, config: Any) -> Files:
    """Add the files under their path in the repository."""
    for path in BESIDE:
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that lead out of ``docs/`` into links within the site, and back."""
    if page.file.src_uri == "CONTRIBUTING.md":
        return markdown.replace("](docs/", "](")
    return markdown.replace("](../", "](")
