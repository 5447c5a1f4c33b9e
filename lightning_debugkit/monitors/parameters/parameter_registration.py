"""Parameters that the loss reaches but the optimizer or the module does not know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_debugkit.core.compat import _BatchNorm
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.optimizers import held_by
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.replay.source_lines import SourceLine
from lightning_debugkit.stats.tensor_norms import values

NOT_IN_OPTIMIZER = Rule(
    "parameter-not-in-optimizer",
    Severity.WARNING,
    "{count} trainable parameters ({names}) get a gradient but are in no optimizer{orphans}: they never change",
    "Pass them to the optimizer in configure_optimizers, after all layers are in place; or freeze them with "
    "requires_grad_(False).",
    section="parameters",
)
UNREGISTERED = Rule(
    "unregistered-parameter",
    Severity.WARNING,
    "{count} parameters in {holder} take part in the loss but are not registered: no {who} knows them",
    "{remedy}",
    section="parameters",
)

_LISTED = "Hold modules in nn.ModuleList or nn.ModuleDict, tensors in nn.Parameter or nn.ParameterList."
_FRESH = "Build the layer once in __init__ and call it here: a layer made in forward starts anew with each step."


def not_in_optimizer(
    where: Where,
    module: nn.Module,
    optimizers: Iterable[Optimizer],
    reached: Mapping[int, Tensor],
    finetuning: str = "",
) -> Iterator[Finding]:
    """Yield the findings for trainable parameters in the graph of the loss that no optimizer holds.

    Args:
        reached: Leaves of the graph of the loss.
        finetuning: Class of a `BaseFinetuning` callback, which leaves batch norm out if told so: that is ``info``.
    """
    held = held_by(optimizers)
    registered = dict(module.named_parameters())
    missing = [name for name, p in registered.items() if p.requires_grad and id(p) in reached and id(p) not in held]
    own = {id(p) for p in registered.values()}
    strange = sum(identity not in own for identity in held)
    orphans = f", while an optimizer holds {strange} that the model no longer has" if strange else ""
    norms = {id(p) for part in module.modules() if isinstance(part, _BatchNorm) for p in part.parameters(recurse=False)}
    meant = [name for name in missing if finetuning and not strange and id(registered[name]) in norms]
    forgotten = [name for name in missing if name not in meant]
    if forgotten:
        at = where.at(common(forgotten))
        count, names = len(forgotten), listed(forgotten)
        yield NOT_IN_OPTIMIZER.found(at, count=count, names=names, orphans=orphans, parameters=forgotten)
    if meant:
        left = f", as {finetuning} leaves batch norm out (train_bn=False)"
        found = NOT_IN_OPTIMIZER.found(
            where, severity=Severity.INFO, count=len(meant), names=listed(meant), orphans=left, parameters=meant
        )
        yield replace(found, advice="Pass train_bn=True if the batch norm is to train, too.")


def fed_but_not_held(where: Where, parameters: Mapping[str, Tensor], optimizers: Iterable[Optimizer]) -> Finding | None:
    """Return the same finding where the graph holds copies of shards instead of parameters: told by gradients."""
    held = held_by(optimizers)
    with_gradient = {name: p.grad for name, p in parameters.items() if p.grad is not None and id(p) not in held}
    missing = [name for name, grad in with_gradient.items() if bool(values(grad).any())]
    if not missing:
        return None
    return NOT_IN_OPTIMIZER.found(
        where.at(common(missing)), count=len(missing), names=listed(missing), orphans="", parameters=missing
    )


def unregistered(
    where: Where,
    module: nn.Module,
    batch_leaves: Iterable[Tensor],
    reached: Mapping[int, Tensor],
    first_use: Mapping[int, SourceLine],
    held: Set[int],
) -> Iterator[Finding]:
    """Yield a finding for each holder of parameters in the graph of the loss that the module does not know.

    Those that an optimizer holds all the same (``held``) do train: that is told as ``info``.
    """
    known = {id(p) for p in module.parameters()} | {id(tensor) for tensor in batch_leaves}
    strange = {identity: leaf for identity, leaf in reached.items() if identity not in known}
    homes = dict(_homes(module, strange)) if strange else {}
    groups: dict[tuple[str, str, str, bool], list[str]] = {}
    for identity, leaf in strange.items():
        trains = identity in held
        if identity in homes:
            holder, name = homes[identity]
            groups.setdefault((holder, holder, "", trains), []).append(name)
        elif isinstance(leaf, nn.Parameter):
            place = first_use.get(identity, SourceLine())
            groups.setdefault((place.module or "", "a layer built in the step", place.source, trains), []).append(
                f"{tuple(leaf.shape)}"
            )
    for (path, holder, source, trains), names in groups.items():
        at = where.at(path)
        remedy = _FRESH if source or holder.startswith("a ") else _LISTED
        yield UNREGISTERED.found(
            at,
            severity=Severity.INFO if trains else None,
            count=len(names),
            holder=holder,
            who="checkpoint or device move" if trains else "optimizer, checkpoint or device move",
            parameters=names,
            source=source,
            remedy=remedy,
        )


def _homes(module: nn.Module, wanted: Mapping[int, Tensor]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield where tensors lie in plain attributes, lists and dicts of the model: ``(id, (holder, path))``."""
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            if attribute in ("_parameters", "_modules", "_buffers", "_trainer", "_fabric"):
                continue
            holder = f"{name}.{attribute}" if name else attribute
            for path, tensor in _held(value, holder, depth=4):
                if id(tensor) in wanted:
                    yield id(tensor), (holder, path)


def _held(value: Any, path: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, nn.Module):
        for name, parameter in value.named_parameters():
            yield f"{path}.{name}", parameter
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _held(item, f"{path}.{key}", depth - 1)
    elif depth and isinstance(value, list | tuple | set):
        for index, item in enumerate(value):
            yield from _held(item, f"{path}.{index}", depth - 1)


def common(names: Iterable[str]) -> str:
    """Return the dotted path that all ``names`` share; of one parameter, its own.

    >>> common(["net.0.weight", "net.0.bias"]), common(["a.weight", "b.weight"]), common(["head.weight"])
    ('net.0', '', 'head.weight')
    """
    split = [name.split(".") for name in names]
    shared = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)
