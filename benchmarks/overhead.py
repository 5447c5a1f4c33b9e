"""What the kit costs: a training step, a whole fit, a journal, beside the alternatives and beside an older build.

    python benchmarks/overhead.py [--against FOLDER_OF_AN_OLDER_BUILD] [--page docs/cost.md] [--quick]

Each variant runs in a process of its own, with one thread, which takes one step when it is told to: in each round all
variants take one, in an order that is shuffled anew. All times are of the CPU, as others may use it too. A ratio is the
median of a variant's steps over the median of the bare ones. The kit's own time is the sum over its hooks, beside one
`torch._foreach_norm` with one read on the same gradients. Steps of the beginning are left out; sampled steps of later
are not. Whole fits, the report of the demo, saves and journals are told in seconds. All rows take about eight minutes
of two quiet cores, `--quick` two.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import IO, Any

VARIANTS = {
    "bare": "nothing",
    "again": "nothing, again",
    "empty": "an empty callback",
    "kit": 'debugkit("standard")',
    "old": 'debugkit("standard"), older build',
    "anomaly": "Trainer(detect_anomaly=True)",
    "hooks": "full backward hooks with isfinite",
    "histograms": "a histogram of each gradient",
}
FIRST = 30  # steps that are left out: the first ones are looked at closely
BEGIN, END = (
    "<!-- measured: made by `python benchmarks/overhead.py --page docs/cost.md` -->",
    "<!-- end of measured -->",
)
NAMES = 10_000  # tensors of the model whose journal is measured
LONG = 100_000  # steps of its run: of these the monitors write ever fewer
SAVES = {1: 61, 16: 25, 64: 11}  # rounds of saves of so many megabytes
OURS = ("kit", "old")


@dataclass(frozen=True)
class Case:
    """A program, and how it is trained.

    Args:
        model: Name of what `model` makes.
        trainer: Arguments of the Trainer.
        optimizer: ``adam``, ``tensor`` (the learning rate is one), ``lbfgs`` or ``two``.
        steps: Of the measured, this share; large models take fewer.
        variants: Those that are run.
        whole: The fit as a whole is measured, not its steps: so many steps, and so many fits.
        rounds: Of whole fits, behind one that is left out.
        is_quick: Measured in a hurry, too.
    """

    model: str
    trainer: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "adam"
    steps: float = 1.0
    variants: tuple[str, ...] = tuple(VARIANTS)
    whole: tuple[int, int] | None = None
    rounds: int = 3
    is_quick: bool = False


FEW = ("bare", "kit", "old")
CASES: dict[str, Case] = {
    "6 tensors": Case("chain-3", is_quick=True),
    "160 tensors": Case("chain-80", is_quick=True),
    "1,000 tensors": Case("chain-500", steps=0.4, is_quick=True),
    "10,000 tensors": Case("chain-5000", steps=0.2, variants=FEW),
    "transformer, 52 tensors": Case("transformer", steps=0.4),
    "CNN, 62 tensors": Case("cnn", steps=0.4),
    "bf16-mixed": Case("chain-20", {"precision": "bf16-mixed"}),
    "16-mixed with a GradScaler": Case("chain-20", {"scaled": True}),
    "accumulation of 4": Case("chain-20", {"accumulate_grad_batches": 4}),
    "learning rate in a tensor": Case("chain-20", optimizer="tensor"),
    "LBFGS": Case("chain-3", optimizer="lbfgs", variants=FEW),
    "two optimizers": Case("chain-20", optimizer="two"),
    "fit of 30 steps, 500 layers": Case("chain-500", whole=(30, 1), rounds=2, variants=FEW),
    "fit of 100 tiny steps": Case("chain-3", whole=(100, 1), variants=FEW, is_quick=True),
    "18 fits of 10 steps": Case("chain-3", whole=(10, 18), rounds=1, variants=FEW, is_quick=True),
}


# In the process of a variant.


def model(name: str) -> Any:
    """Make a model; ``chain-N`` has N linear layers of width 16."""
    from torch import nn

    if name.startswith("chain"):
        count = int(name.partition("-")[2])
        return nn.Sequential(*(residual()(16, 16) for _ in range(count - 1)), nn.Linear(16, 4))
    if name == "cnn":
        blocks: list[nn.Module] = []
        for index in range(20):
            width = 3 if index == 0 else 32
            blocks += [nn.Conv2d(width, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)
    body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(64, 256), body, nn.Linear(256, 64))


@functools.cache
def residual() -> Any:
    """Make the class of layers that pass their input on: in a deep chain of others, gradients are exactly zero."""
    from torch import Tensor, nn

    class Residual(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0.1 * super().forward(x).tanh()

    return Residual


def data(name: str, batches: int) -> Any:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    if name == "transformer":
        x = torch.randint(0, 64, (4 * batches, 64))
        return DataLoader(TensorDataset(x, x.roll(-1, 1)), batch_size=4)
    shape, size, classes = ((3, 32, 32), 8, 10) if name == "cnn" else ((16,), 8, 4)
    labels = torch.randint(0, classes, (size * batches,))  # related to the inputs, as those of a healthy run are
    inputs = torch.randn(classes, *shape)[labels] + torch.randn(size * batches, *shape)
    return DataLoader(TensorDataset(inputs, labels), batch_size=size)


def program(case: Case) -> Any:
    import lightning.pytorch as pl
    import torch
    import torch.nn.functional as F

    class Program(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = model(case.model)
            self.automatic_optimization = case.optimizer != "two"

        def loss(self, batch: Any) -> Any:
            x, y = batch
            return F.cross_entropy(self.net(x).flatten(0, -2), y.flatten())

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.automatic_optimization:
                return self.loss(batch)
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()
            return None

        def configure_optimizers(self) -> Any:
            weights = list(self.parameters())
            if case.optimizer == "lbfgs":
                return torch.optim.LBFGS(weights, lr=0.1, max_iter=4)
            if case.optimizer == "two":
                half = len(weights) // 2
                return [torch.optim.AdamW(part, lr=1e-4) for part in (weights[:half], weights[half:])]
            rate = torch.tensor(1e-4) if case.optimizer == "tensor" else 1e-4
            return torch.optim.AdamW(weights, lr=rate, foreach=case.optimizer != "tensor")

    return Program()


class Tally:
    """Times spent in the hooks of the kit, and on the floor beside them."""

    def __init__(self) -> None:
        self.own = 0.0
        self.floor = 0.0
        self._depth = 0

    def timed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            began = time.thread_time()
            try:
                return hook(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.own += time.thread_time() - began

        return run

    def around(self, kinds: Iterable[type]) -> None:
        """Time each hook of classes of callbacks, and those that they put on optimizers.

        An instance is left alone: a callback of the kit takes what stands on it for the user's.
        """
        import lightning.pytorch as pl
        import torch

        for kind in kinds:
            for name in dir(pl.Callback):
                if name.startswith("on_") and getattr(kind, name) is not getattr(pl.Callback, name):
                    setattr(kind, name, self.timed(getattr(kind, name)))
        register = torch.optim.Optimizer.register_step_post_hook

        def registered(optimizer: Any, hook: Any) -> Any:
            is_ours = str(getattr(hook, "__module__", "")).startswith("lightning_debugkit")
            return register(optimizer, self.timed(hook) if is_ours else hook)

        torch.optim.Optimizer.register_step_post_hook = registered


@functools.cache
def tally() -> Tally:
    """Return the one tally of the process, which times the kit's hooks from now on."""
    from lightning_debugkit import debugkit

    made = Tally()
    made.around(map(type, debugkit("standard")))
    return made


def callbacks_of(variant: str) -> tuple[list[Any], dict[str, Any]]:
    import lightning.pytorch as pl
    import torch

    class Hooks(pl.Callback):
        """The usual hand-made detector: a full backward hook on every module that asks isfinite."""

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            def hook(module: Any, down: Any, up: Any) -> None:
                for grad in (*down, *up):
                    if grad is not None and not torch.isfinite(grad).all():
                        raise RuntimeError("not finite")

            for part in pl_module.modules():
                part.register_full_backward_hook(hook)

    class Histograms(pl.Callback):
        """What experiment trackers do when they watch gradients."""

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            for parameter in pl_module.parameters():
                if parameter.grad is not None:
                    torch.histc(parameter.grad.float(), bins=64).tolist()

    if variant in OURS:
        from lightning_debugkit import debugkit

        return list(debugkit("standard")), {}
    made = {"empty": pl.Callback, "hooks": Hooks, "histograms": Histograms}
    return [made[variant]()] if variant in made else [], {"detect_anomaly": True} if variant == "anomaly" else {}


def fit(case: Case, variant: str, steps: int, turn: Callable[[dict[str, float]], None] | None) -> None:
    """Train for so many batches; ``turn`` is told of each and returns when the next may run."""
    import lightning.pytorch as pl
    import torch

    times = tally() if turn is not None and variant in OURS else Tally()
    callbacks, more = callbacks_of(variant)

    class Clock(pl.Callback):
        began = time.process_time()

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            began = time.thread_time()
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if gradients:
                torch.stack(torch._foreach_norm(gradients)).tolist()
            times.floor += time.thread_time() - began

        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            spent = time.process_time() - self.began - times.floor
            turn({"step": spent, "own": times.own, "floor": times.floor})
            times.own = times.floor = 0.0
            self.began = time.process_time()

    options = {**case.trainer, **more}
    if options.pop("scaled", False):
        from lightning.pytorch.plugins import MixedPrecision

        options["plugins"] = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=-1 if turn is not None else 1,
            max_steps=-1,
            limit_train_batches=20 if turn is not None else 1.0,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[*callbacks, *([Clock()] if turn is not None else [])],
            **options,
        )
        trainer.fit(program(case), data(case.model, 20 if turn is not None else steps))


def report() -> dict[str, float]:
    """Run the demo, and return the CPU seconds of its report: of the first in a process, and of the next."""
    from lightning_debugkit.demo import run_demo
    from lightning_debugkit.report.rendering import render

    times = []
    with tempfile.TemporaryDirectory() as folder:
        made = run_demo(Path(folder))
        for _ in range(2):  # the first one imports what draws
            began = time.process_time()
            render(made)
            times.append(time.process_time() - began)
    return {"first": times[0], "next": times[1]}


class Enough(Exception):
    """The steps that were asked for have been taken."""


def child(variant: str, told: IO[str]) -> None:
    """Run what the parent asks for, line by line."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)

    def say(**fields: Any) -> None:
        print(json.dumps(fields), file=told, flush=True)

    say(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["case"] == "report":
            say(**report())
            continue
        case = CASES[asked["case"]]
        if case.whole is not None:
            steps, fits = case.whole
            if asked["first"]:
                fit(case, variant, steps, None)
            began = time.process_time()
            for _ in range(fits):
                fit(case, variant, steps, None)
            say(whole=time.process_time() - began)
            continue

        def turn(times: dict[str, float]) -> None:
            say(**times)
            if sys.stdin.readline().strip() != "go":
                raise Enough

        with contextlib.suppress(Enough):
            fit(case, variant, 0, turn)
        say(over=True)


# In the process that asks.


class Variant:
    """The process of a variant."""

    def __init__(self, name: str, path: str | None) -> None:
        self.name = name
        environment = {**os.environ, "PYTHONPATH": path} if path else dict(os.environ)
        environment["OMP_NUM_THREADS"] = "1"
        read, write = os.pipe()
        command = [sys.executable, str(Path(__file__).resolve()), "--child", name, "--pipe", str(write)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(write,),
            env=environment,
            text=True,
        )
        os.close(write)
        self.answers = os.fdopen(read)
        self.answer()

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        line = self.answers.readline()
        if not line:
            raise SystemExit(f"{self.name} has died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def steps_of(name: str, variants: list[Variant], steps: int) -> dict[str, list[dict[str, float]]]:
    """Let all variants take steps in turn; return the times of each."""
    found: dict[str, list[dict[str, float]]] = {each.name: [] for each in variants}
    for each in variants:
        each.ask(json.dumps({"case": name}))
        each.answer()
    count = FIRST + max(10, int(steps * CASES[name].steps))
    for step in range(count):
        for each in random.sample(variants, len(variants)):
            each.ask("go")
            times = each.answer()
            if step >= FIRST:
                found[each.name].append(times)
    for each in variants:
        each.ask("stop")
        each.answer()
    return found


def whole_of(name: str, variants: list[Variant]) -> dict[str, float]:
    """Return the CPU seconds of each variant's fits, the median of some rounds behind a first fit."""
    found: dict[str, list[float]] = {each.name: [] for each in variants}
    for turn in range(CASES[name].rounds):
        for each in random.sample(variants, len(variants)):
            each.ask(json.dumps({"case": name, "first": not turn}))
            found[each.name].append(each.answer()["whole"])
    return {each: median(seconds) for each, seconds in found.items()}


def journal() -> list[str]:
    """Write what a long run of a large model writes, and render it; return the row of the table."""
    import numpy as np

    from lightning_debugkit.core.journal import Journal
    from lightning_debugkit.core.journal_writer import JournalWriter, NamedNumbers
    from lightning_debugkit.core.sampling import Thinning
    from lightning_debugkit.report.rendering import render

    names = [f"layers.{at // 2}.{'bias' if at % 2 else 'weight'}" for at in range(NAMES)]
    random_norms = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        recorder, thinning = JournalWriter(Journal(Path(folder)), lambda error: None), Thinning()
        began, points = time.process_time(), 0
        for step in range(LONG):
            if not thinning.keeps(step):
                continue
            points += 1
            value = NamedNumbers(names, random_norms.lognormal(size=NAMES))
            place = {"epoch": 0, "step": step, "rank": 0}
            recorder.append({"kind": "measure", **place, "name": "gradient-norms", "value": value})
            recorder.flush()
        recorder.close()
        written, size = time.process_time() - began, recorder.journal.path.stat().st_size
        times = []
        for _ in range(2):  # the first one imports what draws
            began = time.process_time()
            render(folder)
            times.append(time.process_time() - began)
    return [
        f"{NAMES:,} tensors, {LONG:,} steps",
        f"{points:,}",
        f"{written:.1f}",
        f"{size / 1e6:.2f}",
        f"{times[-1]:.2f}",
    ]


def save(megabytes: int, rounds: int) -> list[str]:
    """Save the stock way and ours, in turn; return the row of the table."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import checkpoint_cost

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # in the processes that save, too
    found = checkpoint_cost.beside_stock(megabytes, rounds)
    stock, nested, ratio = found["stall"]
    return [
        f"{megabytes} MB", f"{stock * 1e3:.1f}", f"{nested * 1e3:.1f}", f"{ratio:.2f}", f"{found['processor'][2]:.2f}",
    ]  # fmt: skip


def report_row(everybody: dict[str, Variant]) -> list[str]:
    """Make the report of the demo, by this build and by the older one; return the row of the table."""
    found = {}
    for key in OURS:
        if key in everybody:
            everybody[key].ask(json.dumps({"case": "report"}))
            found[key] = everybody[key].answer()
    here, old = found["kit"], found.get("old")
    than = (
        ["", "", ""]
        if old is None
        else [f"{old['first']:.2f}", f"{old['next']:.2f}", f"{here['next'] / old['next']:.2f}"]
    )
    return ["of the demo", f"{here['first']:.2f}", f"{here['next']:.2f}", *than]


class Page:
    """The tables, printed as they come, and put into a page of the docs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, *lines: str) -> None:
        self.lines += lines
        print(*lines, sep="\n", flush=True)

    def table(self, head: list[str], rows: Iterable[list[str]]) -> None:
        self.say("", f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1))
        for row in rows:
            self.say(f"| {' | '.join(row)} |")

    def put_into(self, path: Path) -> None:
        """Write the tables between the marks of the page."""
        text = path.read_text()
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        path.write_text("\n".join([f"{before}{BEGIN}", *self.lines, "", f"{END}{after}"]))


def step_rows(names: list[str], everybody: dict[str, Variant], steps: int) -> Iterator[list[str]]:
    for name in names:
        there = [each for key, each in everybody.items() if key in CASES[name].variants]
        found = steps_of(name, there, steps)

        # Of accumulated micro-batches most measure nothing.
        usual = median if median(times["floor"] for times in found["kit"]) else fmean

        def middle(variant: str, what: str, found: Any = found, usual: Any = usual) -> float:
            return float(usual(times[what] for times in found[variant]))

        bare = middle("bare", "step")
        ratios = [f"{middle(key, 'step') / bare:.2f}" if key in found else "" for key in list(everybody)[1:]]
        own, floor = middle("kit", "own"), middle("kit", "floor")
        than = f"{own / middle('old', 'own'):.2f}" if "old" in found else ""
        yield [name, f"{bare * 1e3:.2f}", *ratios, f"{own * 1e3:.2f}", f"{floor * 1e3:.2f}", f"{own / floor:.1f}", than]


def whole_rows(names: list[str], everybody: dict[str, Variant]) -> Iterator[list[str]]:
    for name in names:
        found = whole_of(name, [each for key, each in everybody.items() if key in CASES[name].variants])
        bare, kit, old = (found.get(key, float("nan")) for key in ("bare", "kit", "old"))
        shown = [f"{old:.2f}", f"{(kit - bare) / (old - bare):.2f}"] if "old" in found else ["", ""]
        yield [name, f"{bare:.2f}", f"{kit:.2f}", f"{kit / bare:.2f}", *shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="measured, behind the first ones")
    parser.add_argument("--against", help="folder of an older build, which holds its lightning_debugkit")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help="bare first, and kit among them")
    parser.add_argument("--quick", action="store_true", help="fewer rows, of fewer steps")
    parser.add_argument("--page", type=Path, help="a page of the docs, which gets the tables between its marks")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--pipe", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, os.fdopen(options.pipe, "w"))
        return
    wanted = [key for key in options.variants if key != "old" or options.against]
    here = str(Path(__file__).resolve().parents[1])
    cases = [name for name in options.cases if CASES[name].is_quick or not options.quick]
    everybody = {key: Variant(key, options.against if key == "old" else here) for key in wanted}
    page = Page()
    page.say("", f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one thread each.")
    steps = [name for name in cases if CASES[name].whole is None]
    if steps:
        named = [VARIANTS[key] for key in wanted[1:]]
        head = ["step", "bare, ms", *named, "kit's own, ms", "floor, ms", "own, in floors", "own, to older"]
        page.table(head, step_rows(steps, everybody, options.steps // 3 if options.quick else options.steps))
    whole = [name for name in cases if CASES[name].whole is not None]
    if whole:
        head = ["whole, CPU s", "bare", "kit", "kit to bare", "older build", "added, to older"]
        page.table(head, whole_rows(whole, everybody))
    is_all = options.cases == list(CASES)
    if is_all:
        head = ["report, CPU s", "first", "next", "older build, first", "older build, next", "next, to older"]
        page.table(head, [report_row(everybody)])
    for each in everybody.values():
        each.close()
    if is_all:
        page.table(
            ["save, ms that training waits", "ModelCheckpoint", "NestedCheckpoint", "to ModelCheckpoint", "CPU, to it"],
            [save(*each) for each in SAVES.items()],
        )
        page.table(["journal", "points", "written, CPU s", "MB", "rendered, CPU s"], [journal()])
    if options.page:
        page.put_into(options.page)


if __name__ == "__main__":
    main()
