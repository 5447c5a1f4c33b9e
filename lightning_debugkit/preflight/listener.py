"""What a step's loss functions receive: a function mode that is entered around one step and changes nothing."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from itertools import combinations
from types import FrameType
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_debugkit.core.compat import _DropoutNd, is_transformed
from lightning_debugkit.core.loss_functions import CHECKED_LOSSES, DIFFERENCE_LOSSES, INDEX_LOSSES, in_order
from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.preflight.box_corners import GREATER, LESSER, Corners
from lightning_debugkit.preflight.calling_frame import calling_frame, is_by_default
from lightning_debugkit.preflight.class_picks import Picks
from lightning_debugkit.preflight.loss_calls import (
    ATTENTION,
    LAYERS,
    LossCall,
    Made,
    NoiseCall,
    NormCall,
    OuterCall,
    ViewCall,
)
from lightning_debugkit.preflight.losses_by_hand import Differences, LabelShares, Overlaps, likelihood
from lightning_debugkit.preflight.operations import (
    DROPOUTS,
    FORMS,
    GREY,
    JOINED,
    MOVES,
    OUTER,
    PRODUCTS,
    SHAPING,
    SHARES,
    TRUNCATING,
    VIEWS,
    adds_dimension,
)
from lightning_debugkit.preflight.origins import Origin, Origins, are_classes_cut, is_torn
from lightning_debugkit.preflight.padding_masks import ADDING, MASKING, PaddingMasks, TurnedMask
from lightning_debugkit.replay.source_lines import SourceLine, place_of
from lightning_debugkit.stats.tensor_norms import unobserved


class StepListener(TorchFunctionMode):
    """Keep what loss functions receive, and how it was made, while one step runs.

    Enter it around the step itself and nowhere else: torch's modes are a stack. What fails inside is kept in `error`
    and the step goes on.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        is_training: bool = True,
        judge: Callable[[LossCall], None] | None = None,
        origins: Origins | None = None,
        masks: PaddingMasks | None = None,
    ) -> None:
        super().__init__()
        self.calls: list[LossCall] = []
        self.outer: list[OuterCall] = []
        self.noise: list[NoiseCall] = []
        self.by_hand: list[LossCall] = []
        self.likelihoods: list[tuple[Tensor, SourceLine]] = []
        self.grey: list[SourceLine] = []
        self.views: list[ViewCall] = []
        self.mixed: list[SourceLine] = []
        self.twice: list[Made] = []
        self.shares: list[SourceLine] = []
        self.turned: list[TurnedMask] = []
        self.normed: list[NormCall] = []
        self.picks = Picks()
        self.corners = Corners()
        self.error: Exception | None = None
        self._names = names  # dotted path of each module of the model, by `id`
        self._is_training = is_training  # the step is one of training; dropout is heard in the others only
        # called with each loss call before torch makes it, as torch may raise or a device may die of it
        self._judge = judge
        # follows which results are of the batch, and which of the network; `None` for a step run again
        self._origins = origins
        self._masks = masks  # compares masks of attention with the batch; `None` for a step run again
        self._overlaps = Overlaps()
        self._label_shares = LabelShares()
        self._made: TensorNotes[Made] = TensorNotes()
        self._truncated: TensorNotes[bool] = TensorNotes()
        self._shaped: TensorNotes[bool] = TensorNotes()
        self._cut: TensorNotes[ViewCall] = TensorNotes()  # views of scores across their classes
        self._differences = Differences()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        call = None
        if is_transformed():
            return func(*args, **kwargs)
        hear = _BEFORE.get(name)
        if self.error is None and hear is not None:
            try:
                with unobserved():
                    call = hear(self, name, args, kwargs)
            except Exception as error:  # the step goes on without us
                self.error = error
        result = func(*args, **kwargs)
        if self.error is None:
            try:
                with unobserved():
                    self._after(name, args, kwargs, result, call)
            except Exception as error:
                self.error = error
        return result

    @property
    def samples(self) -> int | None:
        """Samples in the batch, ``None`` if that is not known."""
        return self._origins.samples if self._origins is not None else None

    @property
    def sequences(self) -> list[Tensor]:
        """Those of the batch, ids ``(N, S)`` or features ``(N, S, F)``."""
        return [] if self._masks is None else self._masks.sequences

    def made(self, tensor: Any) -> Made | None:
        """Return how ``tensor`` was made, ``None`` if that was not seen."""
        return self._made.get(tensor)

    def _loss(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LossCall | None:
        prediction = args[0] if args else kwargs.get("input")
        target = args[1] if len(args) > 1 else kwargs.get("target")
        if not isinstance(prediction, Tensor) or not isinstance(target, Tensor):
            return None
        prediction, target = in_order(name, prediction, target, self._is_of_batch)
        # Torch hands a mode all other arguments of its losses by name, however they were given.
        options = {key: value for key, value in kwargs.items() if key not in ("input", "target")}
        is_truncated = self._truncated.get(target) is not None
        kinds = (False, False) if self._origins is None else self._origins.kinds(prediction)
        given = self._apart(name, prediction, target) or (prediction.detach(), target.detach(), self.made(prediction))
        call = LossCall(name, given[0], given[1], options, self._place(), given[2], is_truncated, *kinds)
        if self._judge is not None:
            self._judge(call)
        if name in INDEX_LOSSES and (cut := self._cut.get(prediction)) is not None:
            self.views.append(cut)
        return call

    def _is_of_batch(self, tensor: Tensor) -> bool:
        return self._origins is not None and self._origins.of(tensor) == Origin.BATCH

    def _apart(self, name: str, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Made | None] | None:
        """Return what a difference was made of that is held against zeros, and how the first part was made."""
        if name not in DIFFERENCE_LOSSES or bool(target.any()):
            return None
        return self._differences.parts.get(prediction)

    def _hear_outer(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        one, other = args if len(args) == 2 else (None, None)
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            return
        if abs(one.ndim - other.ndim) == 1 and self._are_outer(one, other):
            self.outer.append(OuterCall(name.strip("_"), (tuple(one.shape), tuple(other.shape)), self._place()))
        if self._origins is not None:
            self.picks.meet(name, one, other, self._origins, self._place)

    def _hear_joined(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Keep a product, or a choice, of what the network says of the samples and what the batch says of them."""
        parts = [part for part in args[:3] if isinstance(part, Tensor)]
        for one, other in combinations(parts, 2) if self._origins is not None else ():
            assert self._origins is not None
            is_pair = abs(one.ndim - other.ndim) == 1 and self._are_outer(one, other)
            if is_pair and self._origins.are_of_samples(one, other, is_sum=name in ADDING):
                self.outer.append(OuterCall(name.strip("_"), (tuple(one.shape), tuple(other.shape)), self._place()))
                return

    def _hear_extreme(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._hear_joined(name, args, kwargs)
        if self._origins is not None:
            self.corners.follow(name, args, self._origins, self._place)

    def _are_outer(self, one: Tensor, other: Tensor) -> bool:
        # Equally many entries, one dimension more on one side, and it is the last, of size 1: nobody has asked for
        # all pairs, as those who want them write the missing dimension.
        count, wide = one.numel(), one if one.ndim > other.ndim else other
        return count > 1 and count == other.numel() and wide.shape == (count, 1) and not self._shaped.get(wide)

    def _hear_mask(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._masks is not None and (padding := self._masks.turned(name, args, kwargs)):
            self.turned.append(TurnedMask(name, padding, self._place()))

    def _hear_sum(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._hear_mask(name, args, kwargs)
        self._hear_joined(name, args, kwargs)

    def _hear_ctc(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LossCall | None:
        lengths = dict(zip(("input_lengths", "target_lengths"), args[2:4], strict=False))
        # Time stands first: not for a probe.
        return self._loss(name, args, {**kwargs, **lengths}) if self._origins is not None else None

    def _hear_attention(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._hear_mask(name, args, kwargs)
        self._hear_noise(name, args, kwargs)

    def _hear_norm(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Keep a batch norm in training that has one number a sample and channel."""
        training = kwargs.get("training", args[5] if len(args) > 5 else False)
        if training and args and isinstance(args[0], Tensor) and args[0].ndim >= 2 and args[0].shape[2:].numel() == 1:
            self.normed.append(NormCall(len(args[0]), self._place()))

    def _hear_noise(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._is_training:
            return
        if name == ATTENTION:
            probability = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)
            is_on, is_stray = True, False
        else:
            probability = kwargs.get("p", 0.5)
            frame = calling_frame()
            is_stray = self._is_stray(frame)
            is_on = kwargs.get("training", kwargs.get("train", True)) and (is_stray or is_by_default(frame))
        if is_on and 0 < float(probability) < 1:
            self.noise.append(NoiseCall(name, float(probability), self._place(), is_stray))

    def _is_stray(self, frame: FrameType | None) -> bool:
        """Tell whether a module of torch drops that is no part of the model: it never hears of eval mode."""
        owner = frame.f_locals.get("self") if frame is not None else None
        return isinstance(owner, _DropoutNd) and bool(self._names) and id(owner) not in self._names

    def _after(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, call: LossCall | None
    ) -> None:
        if call is not None:
            result_of = result.detach() if isinstance(result, Tensor) else None
            self.calls.append(LossCall(**{**vars(call), "result": result_of}))
        if self._origins is not None:
            self._hear_origins(name, args, kwargs, result, self._origins)
            self.picks.follow(name, args, kwargs, result, self._origins, self.made, self._place)
        if not isinstance(result, Tensor) or not args or not isinstance(args[0], Tensor):
            return
        if name in PRODUCTS and len(args) == 2 and isinstance(args[1], Tensor):
            self._hear_product(args[0], args[1])
        if call := self._differences.follow(name, args, result, self.made, self._origins, self._place):
            self.by_hand.append(call)
        if (likely := likelihood(name, args, self.made, self._origins, self._label_shares)) is not None:
            self._hear_likelihood(likely, result)
            return
        source = args[0]
        if self._overlaps.follow(name, args, result, self.made) and result.requires_grad:
            self.shares.append(self._place())
        if name in SHAPING and result.ndim == 2 and (source.ndim == 1 or adds_dimension(args[1:])):
            self._shaped[result] = True
        self._follow(name, source, result, args, kwargs)
        self._hear_cast(name, source, result)

    def _hear_cast(self, name: str, source: Tensor, result: Tensor) -> None:
        """Keep whole numbers that were made of others by cutting them off."""
        is_cast = name in TRUNCATING and source.is_floating_point() and not result.is_floating_point()
        if is_cast and result.numel() and bool((source.detach() != source.detach().trunc()).any()):
            self._truncated[result] = True
        if name in MOVES and not result.is_floating_point() and self._truncated.get(source):
            self._truncated[result] = True

    def _hear_origins(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, origins: Origins
    ) -> None:
        """Keep what is done to the batch, or to all of its samples at once, that hardly anybody means."""
        if name in VIEWS and isinstance(result, Tensor) and args:
            given, shape = tuple(args[0].shape), tuple(result.shape)
            if origins.is_given(args[0]) and is_torn(given, shape, not args[0].is_floating_point()):
                self.views.append(ViewCall(name, given, shape, self._place()))
            elif are_classes_cut(given, shape):
                self._cut[result] = ViewCall(name, given, shape, self._place())
        if origins.follow(name, args, kwargs, result):
            self.mixed.append(self._place())

    def _hear_likelihood(self, made: Made, result: Tensor) -> None:
        self._made[result] = made
        if made.is_repeated and result.requires_grad:
            self.twice.append(made)
        if result.numel() == 1:
            self.likelihoods.append((result.detach(), self._place()))

    def _hear_product(self, one: Tensor, other: Tensor) -> None:
        """Keep where probabilities meet a mask of 0 and 255."""
        for share, mask in ((one, other), (other, one)):
            made = self.made(share)
            if made is not None and made.op in SHARES and mask.shape == share.shape and self.made(mask) is None:
                levels = mask.detach()
                if bool(((levels == 0) | (levels == GREY)).all()) and bool((levels == GREY).any()):
                    self.grey.append(self._place())

    def _follow(
        self, name: str, source: Tensor, result: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Keep how the result was made, where its range or form is known by that."""
        made = self.made(source)
        if name in FORMS or name.rstrip("_") in FORMS:
            form = self._form(name.rstrip("_"), source, args, kwargs)
            self._made[result] = form
            # What only a metric is given has no gradient.
            if form.is_repeated and result.requires_grad:
                self.twice.append(form)
        elif name in LAYERS:
            self._made[result] = Made(name)
        elif name in ADDING:  # what is added to a layer's result leaves it without bounds, as on a residual connection
            for part in args[:2]:
                how = self.made(part)
                if how is not None and how.op in LAYERS and part.shape == result.shape:
                    self._made[result] = how
        elif made is not None and name in MOVES:
            self._made[result] = made

    def _form(self, name: str, source: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Made:
        after = self.made(source)
        if name not in ("softmax", "log_softmax", "logsumexp"):
            return Made(name, self._place(), after=after)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if dim is None:  # torch's own choice where none is given
            dim = 0 if source.ndim in (0, 1, 3) else 1
        dim = dim[0] if isinstance(dim, list | tuple) else dim
        size = source.shape[int(dim)] if source.ndim else 1
        along = int(dim) % max(source.ndim, 1)
        return Made(name, self._place(), along, size, after, weakref.ref(source), count=source.numel())

    def _place(self) -> SourceLine:
        return place_of(calling_frame(), self._names)


# All that is heard before torch makes it, as it may raise, and by whom.
_BEFORE: dict[str, Callable[[StepListener, str, tuple[Any, ...], Mapping[str, Any]], LossCall | None]] = {
    **dict.fromkeys(CHECKED_LOSSES, StepListener._loss),
    **dict.fromkeys(OUTER, StepListener._hear_outer),
    **dict.fromkeys(JOINED, StepListener._hear_joined),
    **dict.fromkeys(GREATER | LESSER, StepListener._hear_extreme),
    **dict.fromkeys(DROPOUTS, StepListener._hear_noise),
    **dict.fromkeys(MASKING, StepListener._hear_mask),
    **dict.fromkeys(ADDING, StepListener._hear_sum),
    "ctc_loss": StepListener._hear_ctc,
    ATTENTION: StepListener._hear_attention,
    "batch_norm": StepListener._hear_norm,
}
