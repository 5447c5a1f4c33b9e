"""How classes are called: by the user, the data module, the data set or the module, in that order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning_debugkit.core.compat import LightningModule, Trainer
from lightning_debugkit.data.loaders import attribute, datasets_of, loaders_of

_PLACES = ("class_names", "classes", "target_names", "label_names", "class_to_idx", "id2label", "features")


def class_names(
    given: Sequence[str] | Mapping[int, str] | None,
    trainer: Trainer,
    module: LightningModule,
    classes: int,
    is_all: bool = True,
    is_from_one: bool = False,
) -> tuple[list[str], str]:
    """Return a name for each class, its number where nobody knows better, and a note where names do not fit.

    With ``is_all``, there are no classes but those that were counted. With ``is_from_one``, class 0 is the background:
    one name less than there are classes begins with class 1.
    """
    if given is not None:
        if is_from_one and not isinstance(given, Mapping) and len(given) == classes - 1:
            given = ["0", *given]
        by_class = dict(given) if isinstance(given, Mapping) else dict(enumerate(given))
        called = [str(by_class.get(number) or number) for number in range(classes)]
        fits = len(by_class) == classes or (len(by_class) > classes and not is_all)
        note = f"There are {len(by_class)} class_names for {classes} classes: numbers stand for those without."
        return called, "" if fits and set(by_class) >= set(range(classes)) else note
    for holder in _holders(trainer, module):
        for place in _PLACES:
            names = (_of_features if place == "features" else _listed)(attribute(holder, place))
            if names is not None and is_from_one and len(names) == classes - 1:
                return ["0", *names], ""
            if names is not None and (len(names) == classes or (len(names) > classes and not is_all)):
                return names[:classes], ""
    return _numbers(classes), ""


def _numbers(classes: int) -> list[str]:
    return [str(number) for number in range(classes)]


def _holders(trainer: Trainer, module: LightningModule) -> Iterator[Any]:
    """Yield who may know: from the data outwards, and what a part of a data set is a part of."""
    yield attribute(trainer, "datamodule")
    for loaders in (trainer.test_dataloaders, trainer.val_dataloaders, trainer.train_dataloader):
        for loader in loaders_of(loaders):
            yield from datasets_of(loader)
    yield module
    yield attribute(module, "config")


def _of_features(held: Any) -> list[str] | None:
    """Return names by class from the features of Hugging Face; a list of features is that of the inputs."""
    label = (
        next((held[name] for name in ("label", "labels") if name in held), None) if isinstance(held, Mapping) else None
    )
    names = getattr(label, "names", None)
    return [str(name) for name in names] if names else None


def _listed(held: Any) -> list[str] | None:
    """Return names by class from a list, a mapping of classes to names or of names to classes."""
    if isinstance(held, Mapping):
        if held and all(isinstance(number, int) for number in held.values()):
            held = {number: name for name, number in held.items()}
        keys = sorted(key for key in held if isinstance(key, int))
        return [str(held[key]) for key in keys] if keys and keys == list(range(len(held))) else None
    if callable(held) or isinstance(held, str) or not hasattr(held, "__len__"):
        return None
    try:
        return [str(name) for name in (held.tolist() if hasattr(held, "tolist") else held)]
    except TypeError:
        return None
