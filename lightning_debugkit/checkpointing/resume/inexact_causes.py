"""Why a resumed run may differ from one that was never interrupted, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lightning_debugkit.core.finding import Severity


@dataclass(frozen=True)
class InexactCause:
    """One reason why a resume is not exact."""

    name: str  # stable name, found in the evidence
    says: str  # what is different, for the message
    advice: str  # what to do about it
    severity: Severity = Severity.INFO  # `warning` if samples are repeated or left out that need not be

    def filled(self, **numbers: object) -> InexactCause:
        """Return the cause with its numbers in place."""
        return InexactCause(self.name, self.says.format_map(numbers), self.advice, self.severity)


NO_STATE = InexactCause(
    "no-state", "the checkpoint holds no random states", "Keep ExactResume in the Trainer from the start of the run."
)
NO_RANK = InexactCause(
    "no-state-of-rank",
    "the checkpoint was saved by one rank alone and lacks the states of the others",
    "Resume from a checkpoint that was not saved while an exception was handled.",
)
WORLD_SIZE = InexactCause(
    "world-size",
    "it was saved by {saved} processes and is resumed by {now}",
    "Resume with as many processes as before.",
)
LOADER = InexactCause(
    "loader", "{what} was {saved} and is {now}", "Resume with the data and the loader settings of the saved run."
)
SELECTION = InexactCause(
    "selection",
    "the training set is another selection of samples, so that samples held out before are trained on now",
    "Split the data with a generator of a fixed seed.",
    Severity.WARNING,
)
ORDER = InexactCause(
    "order",
    "the {batches} batches used so far in this epoch are not those that the loader gives now",
    "Make dataset, batch size and sampler those of the saved run, or resume from the end of an epoch.",
    Severity.WARNING,
)
LOST = InexactCause(
    "position",
    "the loader cannot be set behind the {batches} batches used so far in this epoch ({why}), which begins anew",
    "Give the loader state_dict and load_state_dict (torchdata's StatefulDataLoader has them), "
    "or save at ends of epochs.",
    Severity.WARNING,
)
STOPPED = InexactCause(
    "stopped",
    "the run was stopped behind {batches} batches of an epoch that Lightning counts as complete: {left} are not "
    "trained on",
    "Keep ExactResume in the Trainer of the run that saves, or let runs end with an epoch.",
    Severity.WARNING,
)
STATEFUL = InexactCause(
    "stateful",
    "the loader set its place by a state_dict of its own, and neither its batches nor its state can be compared",
    "Compare the loss of the next steps with that of the run before, if it must be exact.",
)
DRAWN = InexactCause(
    "drawn",
    "the loader took up its place, but random numbers that it draws there are others",
    "Let the dataset keep the state of its generators in its state_dict, and set persistent_workers=False.",
)
SHORT = InexactCause(
    "short-epoch",
    "the loader, whose place was set, gave {batches} of the {length} batches of an epoch",
    "Make the loader begin each later epoch anew, or resume from the end of an epoch.",
    Severity.WARNING,
)
PLACE = InexactCause(
    "place",
    "the loader took its state_dict, but is not behind the {batches} batches used of its epoch: they are "
    "repeated, or others left out",
    "Make load_state_dict of loader and dataset set what state_dict returns; torchdata's StatefulDataLoader asks the "
    "IterableDataset for both.",
    Severity.WARNING,
)
GOES_ON = InexactCause(
    "goes-on",
    "the generator {names} goes on from one epoch to the next and cannot be set: it is at its beginning, {batches} "
    "batches back",
    "Count in an attribute of the stream where it is, or give it state_dict and load_state_dict.",
    Severity.WARNING,
)
ATTRIBUTES = InexactCause(
    "attributes",
    "{names} had moved, and cannot be set without what else had become another in the same object",
    "Give the loader state_dict and load_state_dict, if it goes on from there.",
)
REWIND_OFF = InexactCause(
    "rewind-off",
    "rewind=False: the loader begins anew, behind {batches} batches used so far in this epoch",
    "Use rewind=True, or save at ends of epochs.",
)
UNCHECKED = InexactCause(
    "unchecked",
    "{batches} batches of a loader without indices and state_dict were passed over, and their order cannot be checked",
    "Give the loader state_dict and load_state_dict, or save at ends of epochs.",
)
WORKERS = InexactCause(
    "persistent-workers",
    "persistent workers begin anew, with random states of their own",
    "Set persistent_workers=False if random numbers are drawn in the workers.",
)
DRAWN_IN_WORKERS = InexactCause(
    "drawn-in-workers",
    "a loader draws random numbers in persistent workers, and new ones draw others: the batches that follow are not "
    "those of the run before",
    "Set persistent_workers=False: workers that begin with their epoch draw the same again.",
    Severity.WARNING,
)
IN_WORKERS = InexactCause(
    "goes-on-in-workers",
    "a stream in persistent workers went on from one epoch to the next, and is in new ones where it is made: "
    "{batches} batches back",
    "Set persistent_workers=False, or take torchdata's StatefulDataLoader, and give the stream state_dict and "
    "load_state_dict.",
    Severity.WARNING,
)
HYBRID = InexactCause(
    "hybrid-sharding",
    "torch reads the states of optimizers wrongly under HYBRID_SHARD: they are those of other weights, and the copies "
    "of the model drift apart",
    "Keep a NestedCheckpoint in the Trainer, which reads them as they were saved, or save with state_dict_type='full'.",
    Severity.WARNING,
)
OUT_OF_ORDER = InexactCause("in-order", "with in_order=False batches come as workers finish them", "Set in_order=True.")
MID_BATCH = InexactCause(
    "mid-batch",
    "it was saved within batch {batches} of the epoch, which is run anew",
    "Save in on_train_batch_end or later.",
)
MID_WINDOW = InexactCause(
    "mid-window",
    "it was saved {batches} batches into a window of accumulation, whose gradients no checkpoint holds: they are lost",
    "Save after an optimizer step.",
    Severity.WARNING,
)
EPOCH_START = InexactCause(
    "epoch-start",
    "it was saved before the first batch of an epoch, whose loaders may have been iterated already",
    "Save in on_train_epoch_end or later in the epoch.",
)
HOOKS = InexactCause(
    "hooks",
    "it was saved in on_train_batch_end of an epoch's last batch, and Lightning leaves out {hooks}",
    "Save in on_train_epoch_end.",
)
HOOKS_AGAIN = InexactCause(
    "hooks-again",
    "on_train_epoch_end had run for the epoch when it was saved, and runs for it again",
    "Let on_train_epoch_end bear to be called twice, or let runs end by max_epochs.",
)
RELOADED = InexactCause(
    "reloaded",
    "train_dataloader was called again in epoch {epoch}, with random states that are not kept",
    "Save at ends of epochs, or draw no random numbers in train_dataloader.",
)
VALIDATION = InexactCause(
    "validation",
    "it was saved before a validation had ended, and Lightning does not run that anew",
    "Save in on_validation_end or on_train_epoch_end.",
)
_UNDRAWN = ": order and dropout are drawn from where its random numbers would have been"
PLATEAU = InexactCause(
    "plateau",
    "{scheduler} waits for a metric that is not there, and misses a step",
    "Save in on_train_epoch_end: ModelCheckpoint(save_on_train_epoch_end=True).",
)
PRUNED = InexactCause(
    "pruned",
    "ModelPruning saves pruned weights as zeros without their masks: they are trained again until it prunes next",
    "Save before the first pruning or after the last, or keep the masks and apply them in on_fit_start.",
    Severity.WARNING,
)
ORIGINALS = InexactCause(
    "pruning-originals",
    "ModelPruning goes back to the weights of its set-up whenever it prunes, and those are of a model made anew, not "
    "the ones that the run began with",
    "Call seed_everything with the seed of the first run before the model is made, or set "
    "use_lottery_ticket_hypothesis=False.",
    Severity.WARNING,
)
GENERATORS = InexactCause(
    "generators",
    "the generators {names} are not there any more",
    "Resume with the model, dataset and samplers of the saved run.",
)
UNKNOWN = InexactCause(
    "lightning",
    "this version of Lightning has changed what ExactResume needs of it ({why})",
    "Save at ends of epochs, and tell us the version.",
)


def lost(batches: int, error: Exception) -> InexactCause:
    """Return that a loader could not be pulled to its place, with what it raised."""
    why = "it gives fewer" if isinstance(error, StopIteration) else f"it raised {type(error).__name__}: {error}"
    return LOST.filled(batches=batches, why=why)


def of_checkpoint(saved: list[dict[str, Any] | None] | None, world_size: int) -> InexactCause | None:
    """Return why the states in a checkpoint, one for each rank, are of no use, if so: the same on every rank."""
    if not saved or not any(saved):
        return NO_STATE
    if len(saved) != world_size:
        return WORLD_SIZE.filled(saved=len(saved), now=world_size)
    return None if all(saved) else NO_RANK


def of_state(saved: dict[str, Any], now: dict[str, Any]) -> Iterator[InexactCause]:
    """Yield the causes that a saved state shows by itself, or compared with the state of the fit that resumes."""
    batches = saved["batches"]
    if saved["in_batch"]:
        yield MID_BATCH.filled(batches=batches)
    if saved["in_epoch_start"]:
        yield EPOCH_START
    if saved["hooks"]:
        yield HOOKS.filled(hooks=" and ".join(saved["hooks"]))
    if saved["reloads"] and saved["reloaded"] > 0 and any("passes" in loader for loader in saved["loaders"]):
        yield RELOADED.filled(epoch=saved["reloaded"])
    if saved["in_window"]:
        yield MID_WINDOW.filled(batches=saved["in_window"])
    if saved["validation"]:
        undrawn = replace(VALIDATION, says=VALIDATION.says + _UNDRAWN, severity=Severity.WARNING)
        yield undrawn if saved.get("undrawn") else VALIDATION  # older checkpoints do not tell
    for before, after in zip(saved["loaders"], now["loaders"], strict=False):
        yield from _changed(before["about"], after["about"])
    workers = {state["workers"] for state in saved["loaders"]}
    yield from (cause for name, cause in (("kept", WORKERS), ("out of order", OUT_OF_ORDER)) if name in workers)
    yield from _changed(saved["settings"], now["settings"])


def _changed(before: dict[str, Any], after: dict[str, Any]) -> Iterator[InexactCause]:
    for what in before.keys() & after.keys():
        if before[what] != after[what] and what == "selection of samples":
            yield SELECTION
        elif before[what] != after[what]:
            yield LOADER.filled(what=what, saved=before[what], now=after[what])
