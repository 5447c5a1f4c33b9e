"""Gather each optimizer step's norm and threshold: from torch's own clipping, or by looks before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import unserializable_hook

from lightning_debugkit.core.compat import LightningModule, Trainer, divides_by_scale, is_unscaled, overrides
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.host_copy import Later
from lightning_debugkit.core.optimizers import is_whole_window, scaler_of
from lightning_debugkit.core.run import current_run
from lightning_debugkit.monitors.clipping import clip_hooks
from lightning_debugkit.monitors.clipping.clipped_step import By, PendingClippedStep
from lightning_debugkit.monitors.clipping.clipping_order import ClippingOrder
from lightning_debugkit.monitors.grad_norm_cache import GradientNorms, gathered, parameters_of, shared_norms
from lightning_debugkit.replay.source_lines import caller, place_of
from lightning_debugkit.stats.tensor_norms import norms, values

_DENSE = 50  # first steps of an optimizer, all of which are measured where nothing is heard
_MOST = 8  # clippings of one step that are kept, where a module clips part by part
_OWN_CLIPPING = ("configure_gradient_clipping", "on_before_optimizer_step", "optimizer_step")


@dataclass(frozen=True)
class _Before:
    """The norms of an optimizer's gradients before they are clipped."""

    shared: GradientNorms
    scale: float = 1.0  # still in those on the device

    def __post_init__(self) -> None:
        if self.shared.numbers is None:
            _ = self.shared.each  # of now: what is to come changes them

    @property
    def norms(self) -> Tensor | Sequence[float]:
        """In host memory where the detector has read them, the scale taken out."""
        shared = self.shared
        return torch.stack([*shared.each]) / self.scale if shared.numbers is None else shared.numbers.tolist()

    @property
    def total(self) -> Tensor | float:
        if self.shared.numbers is not None:
            return self.shared.total
        return _total(torch.stack([*self.shared.each])) / self.scale

    @property
    def layers(self) -> list[str]:
        """The module of each."""
        every, present = self.shared.held.layers, self.shared.present
        return every if present is None else [every[at] for at in present]


@dataclass
class _Pending:
    """What is known of an optimizer since its last step."""

    steps: int = 0
    is_due: bool = True
    opened: Where | None = None
    is_whole: bool = True  # it uses a full accumulation window
    drafts: list[PendingClippedStep] = field(default_factory=list)
    before: _Before | None = None
    heard: bool = False
    heard_last: bool = False  # in the step before this one
    fed: bool = False  # a backward has run since the last step


class ClipStatsReader:
    """Hears the clipping of one fit.

    Args:
        heard: Called at the first clipping that is heard: from then on, all that Trainer and optimizers tell is needed
            to judge its moment, and a step is closed when it is over, not with the next one.
    """

    def __init__(
        self, trainer: Trainer, module: LightningModule, every_n_steps: int, heard: Callable[[], None]
    ) -> None:
        self.trainer = trainer
        self.module = module
        self._is_automatic = module.automatic_optimization
        self.every_n_steps = every_n_steps
        self.order = ClippingOrder()
        self.drafts: list[PendingClippedStep] = []
        self.error: Exception | None = None  # met while listening, where nothing may be raised
        # No backward pass has begun that a clipping could be meant for. The first clipping is taken for one behind it:
        # three steps in a row make a habit.
        self.is_forward = False
        self.is_heard = False  # a clipping, in this fit
        self._tell_heard = heard
        self._moment = 0
        self._owners: dict[int, int] = {}
        self.optimizers = trainer.optimizers  # those of the whole fit: each step asks
        self._pending = [_Pending() for _ in self.optimizers]
        self.may_clip = not self._is_automatic or any(overrides(module, n) for n in _OWN_CLIPPING)
        self.run = current_run(trainer)
        clip_hooks.listen(self)
        if self.run is not None:
            self.run.norm_readers += 1

    def close(self) -> None:
        """Hear no more; may be called twice."""
        clip_hooks.unlisten(self)

    # What torch tells.

    def clipped_by_norm(self, parameters: Sequence[Tensor], threshold: float, norm: Tensor) -> None:
        """Keep the norm that a clipping has computed."""
        try:
            for index in self._concerned(parameters):
                self._heard(index, "norm", threshold, norm.detach())
        except Exception as error:
            self.error = error

    def clipping_by_value(self, parameters: Sequence[Tensor], threshold: float) -> Callable[[], None]:
        """Measure a clipping that computes no norm, on the steps that are looked at closely."""
        try:
            concerned = self._concerned(parameters)
            gradients = [p.grad for p in parameters if p.grad is not None]
            due = [index for index in concerned if self._pending[index].is_due]
            before = _total(norms(gradients)) if due and gradients else None
        except Exception as error:
            self.error = error
            return lambda: None

        def told() -> None:
            try:
                after = None if before is None else _total(norms(gradients))
                for index in concerned:
                    self._heard(index, "value", threshold, before, after)
            except Exception as error:
                self.error = error

        return told

    def _concerned(self, parameters: Sequence[Tensor]) -> list[int]:
        """Return the optimizers whose gradients these are; none while a step is replayed or for others' parameters."""
        if self.run is not None and self.run.is_replaying:
            return []
        found = {self._owners[id(p)] for p in parameters if id(p) in self._owners}
        if not found:  # groups may have been added since
            self._learn_owners()
            found = {self._owners[id(p)] for p in parameters if id(p) in self._owners}
        return sorted(found)

    def _learn_owners(self) -> None:
        for index, optimizer in enumerate(self.optimizers):
            self._owners.update((id(p), index) for group in optimizer.param_groups for p in group["params"])

    def _heard(self, index: int, by: By, threshold: float, norm: Tensor | None, after: Tensor | None = None) -> None:
        pending = self._pending[index]
        is_early = self.is_forward if self._is_automatic else not pending.fed
        scale = self._scale(self.optimizers[index])
        if not self.is_heard:
            self.is_heard = True
            self._tell_heard()
        # Only where the moment is wrong is it worth knowing who called.
        is_asked = (is_early or scale > 1) and not self.order.has_source(index)
        source = place_of(caller(), {}).source if is_asked else ""
        self.order.clipped(index, is_early, source)
        if is_early:
            return
        pending.heard = True
        if norm is None:
            return
        if self.run is not None:
            self.run.clip_norm = norm
        if len(pending.drafts) < _MOST:
            kind = str(norm.dtype).removeprefix("torch.")
            told, left = (self._later(norm), None if after is None else self._later(after))
            pending.drafts.append(PendingClippedStep(index, by, told, threshold, scale, source, left, kind=kind))

    def _later(self, number: Tensor) -> Later | Tensor:
        """Return what the detector's next read brings along; without a detector, the tensor itself."""
        run = self.run
        return run.copies.later(number) if run is not None and run.norm_readers > 1 else number

    def _scale(self, optimizer: Optimizer) -> float:
        """Return the loss scale that is in the gradients now."""
        scaler = scaler_of(self.trainer)
        return 1.0 if scaler is None or is_unscaled(scaler, optimizer) else float(scaler.get_scale())

    # What the Trainer tells.

    def before_backward(self, loss: Tensor) -> None:
        """Wait for the backward pass itself: hooks of the module that come before it may still clip."""
        if loss.requires_grad and self.is_heard:
            loss.register_hook(self._backward_begins)

    @unserializable_hook  # type: ignore[untyped-decorator]  # else torch warns where a loss that has it is saved
    def _backward_begins(self, _: Tensor) -> None:
        self.is_forward = False

    def after_backward(self) -> None:
        """Take note of the gradients of a module that clips and steps by itself."""
        self.is_forward = False
        if self._is_automatic:
            return
        for index, optimizer in enumerate(self.optimizers):
            pending = self._pending[index]
            pending.fed = True
            if pending.is_due and not pending.drafts:
                pending.before = self._look(optimizer, None)

    def before_step(self, index: int, where: Where, must_look: bool) -> Tensor | float | None:
        """Open the step that an optimizer is about to take; return the norm of its gradients if it ``must_look``."""
        self._moment += 1
        if self._pending[index].opened is not None:
            self.step_over(index, is_taken=False)
        pending = self._pending[index]
        pending.opened, pending.is_whole = where, is_whole_window(self.trainer)
        optimizer = self.optimizers[index]
        if self._is_automatic:
            # Where the clipping itself is heard, its norm will do, but for the shares of the layers.
            needed = must_look or pending.is_due or not pending.heard_last
            pending.before = self._look(optimizer, self._moment) if needed else None
        elif pending.before is None and not pending.drafts:
            pending.before = self._look(optimizer, self._moment)
        return pending.before.total if must_look and pending.before is not None else None

    def step_over(self, index: int, is_taken: bool = True) -> None:
        """Close the step of an optimizer: it is taken, or the loss scale has skipped it."""
        pending = self._pending[index]
        if pending.opened is None:
            return
        self.order.stepped(index)
        drafts = pending.drafts if pending.heard else self._measured(index, pending)
        for draft in drafts:
            draft.where, draft.is_whole = pending.opened, pending.is_whole
            if draft.by == "nothing":
                continue  # of what nobody cuts, the norm is all that is asked
            groups = self.optimizers[index].param_groups
            draft.is_taken = is_taken and any(p.grad is not None for group in groups for p in group["params"])
            if pending.is_due and pending.before is not None:
                found = pending.before.norms
                draft.layers = pending.before.layers, self._later(found) if isinstance(found, Tensor) else found
        self.drafts += drafts
        steps = pending.steps + 1
        is_due = steps < _DENSE or steps % self.every_n_steps == 0
        self._pending[index] = _Pending(steps, is_due, heard_last=pending.heard)

    def read_drafts(self) -> list[PendingClippedStep]:
        """Return the steps to judge: what the last clipping has computed comes with the detector's next read."""
        count = len(self.drafts)
        if self.run is not None and self.run.norm_readers > 1:
            while count and not self.drafts[count - 1].is_read:
                count -= 1
        return self.drafts[:count]

    def batch_over(self) -> None:
        """Close what a skipped step has left open; take what is clipped up to the next backward pass for too early."""
        self.is_forward = self.is_heard
        for index, pending in enumerate(self._pending):
            if pending.opened is not None:
                self.step_over(index, is_taken=False)

    def _measured(self, index: int, pending: _Pending) -> list[PendingClippedStep]:
        """Return the step by what its gradients were before, and after where the module may have clipped them."""
        if pending.before is None or not pending.before.shared.count:
            return []
        total = pending.before.total
        norm = self._later(total) if isinstance(total, Tensor) else total
        if not (self.may_clip and pending.is_due):
            return [PendingClippedStep(index, "nothing", norm)]
        optimizer = self.optimizers[index]
        gradients = [p.grad for p in pending.before.shared.held.parameters if p.grad is not None]
        if len(gradients) != pending.before.shared.count:
            return []  # cleared in the step itself
        scale = self._scale_left(optimizer)
        after = norms(gradients) / scale
        held = [entries for entries in map(values, gradients) if entries.numel()]
        if not held:
            return []
        peak = torch.stack([g.abs().max().to(after.device, torch.float32) for g in held]).max() / scale
        # What was set to 0, as by zero_grad, is no matter of clipping: what it multiplies by 0 keeps its signs.
        is_signed = torch.stack([g.signbit().any().to(after.device) for g in held]).any()
        left = torch.where((peak == 0) & ~is_signed, torch.as_tensor(total).to(after.device), _total(after))
        return [PendingClippedStep(index, "module", norm, after=self._later(left), peak=self._later(peak))]

    def _look(self, optimizer: Optimizer, moment: int | None) -> _Before:
        if moment is None:  # between two backward passes: nobody else looks, and the scale is still in them
            held = parameters_of(self.run, self.module, optimizer)
            return _Before(gathered(held), self._scale(optimizer))
        shared = shared_norms(self.run, self.trainer, self.module, optimizer, moment)
        return _Before(shared, 1.0 if shared.numbers is not None else self._scale_left(optimizer))

    def _scale_left(self, optimizer: Optimizer) -> float:
        """Return the loss scale that is still in the gradients: fused optimizers divide by it in their own step."""
        scaler = scaler_of(self.trainer)
        return float(scaler.get_scale()) if scaler is not None and divides_by_scale(optimizer) else 1.0


def _total(found: Tensor) -> Tensor:
    total: Tensor = torch.linalg.vector_norm(found)
    return total
