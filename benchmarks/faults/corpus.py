"""The programs: what each states about itself, read without running it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Case:
    """One program and what a good doctor would say of it.

    Args:
        name: Its file's name without the ending.
        path: Its file.
        story: What the person sees, where it comes from and when it was added.
        diagnoses: Acceptable rules; empty for a program that is healthy in both forms.
        place: Text that the finding must hold, None where there is no single place.
        preset: The preset that the rule is in.
        again: The program whose fault it has in another form, written after a rule had been changed because of that
            program, by somebody who had not seen the change; None for a program of the corpus itself.
    """

    name: str
    path: Path
    story: str
    diagnoses: tuple[str, ...]
    place: str | None
    preset: str
    again: str | None = None

    @property
    def healthy(self) -> bool:
        return not self.diagnoses

    @property
    def missed(self) -> str:
        """Why it is missed, empty if it is not."""
        return self._stated("Missed: ")

    @property
    def changed(self) -> str:
        """The rules that were changed because of it, empty if none was."""
        stated = self._stated("Rules changed because of it: ")
        return "" if stated == "none" else stated

    def _stated(self, label: str) -> str:
        _, _, after = self.story.partition(label)
        return " ".join(after.partition("Missed: ")[0].split()).rstrip(".")


def read_case(path: Path) -> Case:
    """Return what the program at ``path`` states.

    Raises:
        ValueError: A statement is missing or is not a literal.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    stated = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    try:
        diagnoses, place, preset = (ast.literal_eval(stated[name]) for name in ("DIAGNOSES", "PLACE", "PRESET"))
    except KeyError as error:
        raise ValueError(f"{path.name} does not state {error.args[0]}") from None
    again = ast.literal_eval(stated["AGAIN"]) if "AGAIN" in stated else None
    return Case(path.stem, path, ast.get_docstring(tree) or "", tuple(diagnoses), place, preset, again)


def cases(folder: Path = FOLDER) -> list[Case]:
    """Return all programs in the order of their names."""
    return [read_case(path) for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]
