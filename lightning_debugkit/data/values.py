"""The numbers of a split: constant, on another scale than validation's, and what the first layer is given."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.rule import Rule

SAMPLES = 32
# Means that lie five standard deviations apart, or spreads a factor of ten: another normalisation, no drift.
MEANS = 5.0
SPREADS = 10.0
# What enters the first layer of weights: inputs of unit size are what initialisation assumes (LeCun et al., Efficient
# BackProp, 1998, section 4.3). Raw pixels have a root mean square above 100; divided by 255 twice they lie below 0.02.
LARGE = 30.0
SMALL = 0.02
# Numbers that differ this little, and lie this many times farther from 0, were divided by 255 before a constant of
# another scale was taken off: all of them are one number to the first layer.
TIGHT = 0.05
APART = 80.0
IMAGES = 4  # dimensions of a batch of them
MATRIX = 2
SHOWN = 5  # columns that are named
# Targets so large, and so many times the first predictions, which are of about unit size: the network must first travel
# there, by steps of the size of the learning rate, and its first gradients are as large.
TARGETS = 1e4
FAR = 100.0
FEWEST_TARGETS = 8  # of fewer than SAMPLES one may be all there is of the size, so their median is asked, too
# The same map for each entry: means of the splits on a line, and its slope found again in the spreads. A random split
# has slope 1; half or twice that is another normalisation. Entries needed, and the share of variance explained.
ENTRIES = 16
FIT = 0.95
SLOPE = 2.0
AGREE = 1.15
# Pictures whose parts lie anywhere have no such means: their channels are compared by quantiles. Where one split has
# raw pixels, 0 to 1 or 255, and the other numbers below 0, less of a slope tells: Normalize(0.5, 0.5) makes 2.
PIXEL_SLOPE = 1.5
PIXELS = 100_000  # of a channel that are looked at
RAW = (1.0, 255.0)
CHANNELS = (1, 3, 4)
# Means of so many columns of a sample that training's statistics have standardised do not all lie this near 0: of
# 20,000 rows one does with a chance of a hundredth.
COLUMNS = 3
OWN = 1e-4

CONSTANT_INPUT = Rule(
    "constant-input",
    Severity.WARNING,
    "all {seen} training samples that were looked at are the same",
    "Look at the dataset's __getitem__: an index that is not used, or a file that is read again and again.",
    section="data",
    cost="once",
)
INPUT_SHIFT = Rule(
    "input-shift",
    Severity.WARNING,
    "{told}",
    "Use the same transforms for both, but for random augmentation, with the statistics of the training data.",
    section="data",
    cost="once",
)
INPUT_NOT_NORMALIZED = Rule("input-not-normalized", Severity.WARNING, "{told}", "{remedy}", section="data", cost="once")


def judge(train: Tensor | None, val: Tensor | None, where: Where, shape: tuple[int, ...] = ()) -> Iterator[Finding]:
    """Yield what is wrong with the inputs of both splits, each ``(n, d)`` float or ``None``.

    Args:
        shape: Of one sample, before it was flattened.
    """
    if train is None or len(train) < SAMPLES:
        return
    if train.shape[1] > 1 and bool((train == train[:1]).all()):
        yield CONSTANT_INPUT.found(where, seen=len(train))
        return
    if val is None or len(val) < SAMPLES or val.shape[1] != train.shape[1]:
        return
    mean, std, other, spread = (float(n) for n in (train.mean(), train.std(), val.mean(), val.std()))
    widest, least = max(std, spread), max(min(std, spread), 1e-12)
    is_far = abs(mean - other) > MEANS * max(widest, 1e-12) or widest / least > SPREADS
    if is_far or _is_rescaled(train, val) or _is_raw(train, val, shape) or _is_raw(val, train, shape):
        told = (
            f"training inputs have mean {_centre(mean, std)} and standard deviation {std:.3g}, validation inputs "
            f"{_centre(other, spread)} and {spread:.3g}: they are not scaled alike"
        )
        yield INPUT_SHIFT.found(where, told=told, mean=mean, std=std, other=other, spread=spread)


def judge_own_scale(val: Tensor, where: Where) -> Iterator[Finding]:
    """Yield that a table ``(n, d)``, all of validation, was standardised with its own statistics."""
    rows = val.double()
    spread = rows.std(0, correction=0)
    rows, spread = rows[:, spread > 0], spread[spread > 0]
    if len(rows) < SAMPLES or len(spread) < COLUMNS:
        return
    unbiased = spread * (len(rows) / (len(rows) - 1)) ** 0.5
    is_one = any(bool(((each - 1).abs() <= OWN).all()) for each in (spread, unbiased))
    if is_one and bool((rows.mean(0).abs() <= OWN).all()):
        told = (
            f"each of {len(spread)} columns of validation has mean 0 and standard deviation 1 to the last digit: they "
            "were standardised with statistics of their own, which hides any shift from training"
        )
        yield INPUT_SHIFT.found(where, severity=Severity.INFO, told=told, columns=len(spread))


def _centre(mean: float, spread: float) -> str:
    """Return a mean in words, 0 where it is nothing beside the spread."""
    return "0" if abs(mean) < 1e-3 * spread else f"{mean:.3g}"


def _is_rescaled(train: Tensor, val: Tensor) -> bool:
    """Tell whether validation inputs are those of training under one linear map, as of another normalisation."""
    moves = (train.std(0) > 0) & (val.std(0) > 0)
    if int(moves.sum()) < ENTRIES:
        return False
    one, other = train[:, moves], val[:, moves]
    x, y = one.mean(0) - one.mean(), other.mean(0) - other.mean()
    slope, left = _line(x, y)
    ratio = float((other.std(0) / one.std(0)).median())
    is_one_map = slope > 0 and 1 - left >= FIT and 1 / AGREE <= ratio / slope <= AGREE
    return is_one_map and not 1 / SLOPE < slope < SLOPE


def _line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the slope of the line through 0 that fits ``y`` best, and the share of its squares that it leaves."""
    slope = float((x * y).sum() / x.square().sum().clamp_min(1e-30))
    return slope, float((y - slope * x).square().sum() / y.square().sum().clamp_min(1e-30))


def _is_raw(raw: Tensor, scaled: Tensor, shape: tuple[int, ...]) -> bool:
    """Tell whether pictures of one split hold raw pixels, and those of the other the same, scaled by channel.

    Args:
        raw: ``(n, d)``.
        scaled: ``(m, d)``.
        shape: Of one picture, ``(C, H, W)``.
    """
    if len(shape) != IMAGES - 1 or shape[0] not in CHANNELS or float(raw.min()) < 0 or float(scaled.min()) >= 0:
        return False
    largest = float(raw.max())
    # Most of the range is used: what is small by nature is no raw picture.
    if not any(level / 2 < largest <= level for level in RAW):
        return False
    for one, other in zip(_quantiles(raw, shape[0]), _quantiles(scaled, shape[0]), strict=True):
        x, y = one - one.mean(), other - other.mean()
        if not bool(x.any()) or not bool(y.any()):
            return False
        slope, left = _line(x, y)
        if 1 - left < FIT or 1 / PIXEL_SLOPE < slope < PIXEL_SLOPE:
            return False
    return True


def _quantiles(pictures: Tensor, channels: int) -> Iterator[Tensor]:
    for channel in pictures.reshape(len(pictures), channels, -1).unbind(1):
        values = channel.reshape(-1)
        yield values[:: max(1, len(values) // PIXELS)].quantile(torch.linspace(0.05, 0.95, 19))


def judge_first(module: str, given: Tensor, is_normed: bool, where: Where) -> Iterator[Finding]:
    """Yield that what enters the first layer of weights is far from unit size.

    Args:
        module: Dotted path of the layer.
        given: What enters it, any shape.
        is_normed: A normalisation follows it, which takes offset and size off again.
    """
    # Of tensors of other classes, as those cut over processes, nothing is asked.
    if type(given) is not Tensor or given.is_nested or not given.is_floating_point() or given.numel() < SAMPLES:
        return
    given = given.detach().float()
    told = f"the first layer, {module}, is given numbers"
    size, largest = float(given.square().mean().sqrt()), float(given.abs().max())
    if size > LARGE:
        what, remedy = (
            f"of size {size:.3g} (root mean square){_large_columns(given)}",
            "Divide by 255, or subtract mean and divide by standard deviation.",
        )
        yield INPUT_NOT_NORMALIZED.found(where.at(module), told=f"{told} {what}", remedy=remedy, size=size)
    elif 0 < largest < SMALL:
        what = f"that are all below {largest:.2g}"
        remedy = "Look whether the input is scaled twice."
        yield INPUT_NOT_NORMALIZED.found(where.at(module), told=f"{told} {what}", remedy=remedy, size=size)
    elif not is_normed and 0 < (std := _spread(given)) < min(TIGHT, abs(mean := float(given.mean())) / APART):
        within = " within each channel" if given.ndim == IMAGES else ""
        what = f"that are nearly all the same{within}: {mean:.3g}, with a standard deviation of {std:.2g}"
        remedy = "Look whether the input is scaled twice, or subtract its own mean and divide by its own deviation."
        yield INPUT_NOT_NORMALIZED.found(where.at(module), told=f"{told} {what}", remedy=remedy, size=size)


def _large_columns(given: Tensor) -> str:
    """Return which columns of a table ``(n, d)`` are so large, where others are not."""
    is_large = given.square().mean(0).sqrt() > LARGE if given.ndim == MATRIX else given.new_ones(1, dtype=torch.bool)
    if bool(is_large.all()) or not bool(is_large.any()):
        return ""
    large = given[:, is_large]
    said = ", which are the same in all samples" if bool((large == large[:1]).all()) else ""
    return f", made so by columns {listed([*map(str, is_large.nonzero()[:, 0].tolist())], SHOWN)}{said}"


def _spread(given: Tensor) -> float:
    """Return the standard deviation; of images ``(N, C, H, W)`` that within a channel, as each has its own constant."""
    about = given.mean((0, 2, 3), keepdim=True) if given.ndim == IMAGES else given.mean()
    return float((given - about).square().mean().sqrt())


def judge_targets(prediction: Tensor, target: Tensor, named: str, where: Where) -> Iterator[Finding]:
    """Yield that the targets of a regression lie far beyond what untrained weights predict.

    Args:
        prediction: What the loss was given first, any shape.
        target: What it was given second, of the same shape.
        named: The loss and its line, for the message.
    """
    if target.numel() < FEWEST_TARGETS or not target.is_floating_point() or not prediction.is_floating_point():
        return
    size, reach = (float(tensor.detach().float().square().mean().sqrt()) for tensor in (target, prediction))
    if target.numel() < SAMPLES:
        size = min(size, float(target.detach().float().abs().median()))
    if size > TARGETS and size > FAR * reach:
        told = f"the targets of {named} are of size {size:.3g} (root mean square), the first predictions of {reach:.3g}"
        remedy = (
            "Standardise the targets (subtract their mean, divide by their standard deviation), and undo it for what "
        )
        remedy += "is reported; or let the bias of the last layer start at their mean."
        yield INPUT_NOT_NORMALIZED.found(where, told=told, remedy=remedy, size=size, predicted=reach)


def is_finite(values: Tensor | None) -> bool:
    """Tell whether there are values that can be compared."""
    return values is not None and bool(torch.isfinite(values).all())


def finite(values: Tensor | None) -> Tensor | None:
    """Return the values, ``None`` if there are none or not all numbers are finite."""
    return values if is_finite(values) else None
