"""A model in a process of its own answers as at training, and its process goes when it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import warm_process
from provenance.snapshots import KIT, run, write

from lightning_debugkit.provenance.load_model.isolated import IsolatedError, IsolatedModel
from lightning_debugkit.provenance.load_model.loading import load_model

NET = {
    "pyproject.toml": "",
    "boxes/__init__.py": "",
    "boxes/word.py": "WORD = 'one'\n",
    "train.py": """
        import os, time, importlib
        from dataclasses import dataclass
        import torch
        from lightning.pytorch import LightningModule
        from saving_for_tests import trained
        @dataclass
        class Both:
            y: torch.Tensor
            word: str
        class Net(LightningModule):
            def __init__(self):
                super().__init__()
                self.inner = torch.nn.Linear(3, 2)
                self.drop = torch.nn.Dropout(0.5)
            def forward(self, x):
                print("not an answer")
                return self.drop(self.inner(x))
            def training_step(self, batch, index):
                return self(batch).square().mean()
            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)
            def both(self, x, times=1):
                return Both(times * x, importlib.import_module("boxes.word").WORD)
            def fail(self):
                raise KeyError("of the model")
            def die(self):
                os.kill(os.getpid(), 9)
            def where(self):
                return [os.getpid(), os.getcwd(), Net.__module__]
            def sleep(self):
                time.sleep(100)
            def odd(self):
                return object()
            def echo(self, value):
                return value
            def slow(self, seconds):
                time.sleep(seconds)
                return "slow"
        if __name__ == "__main__":
            trained(Net(), "net.ckpt")
        """,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write(tmp_path_factory.mktemp("isolated"), NET)
    run(root, "train.py")
    write(root, {"boxes/word.py": "WORD = 'two'\n"})
    return root / "net.ckpt"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a model has what it needs imported, but for that of `model`, which starts as the user's."""
    monkeypatch.setattr(sys, "executable", warm_process.python())


@pytest.fixture(scope="module")
def model(saved: Path) -> Iterator[IsolatedModel]:
    with load(saved) as loaded:
        yield loaded


def load(path: Path) -> IsolatedModel:
    loaded = load_model(path, trust_code=True, isolated=True)
    assert isinstance(loaded, IsolatedModel)
    return loaded


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def ends(process: int, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not is_alive(process):
            return True
        time.sleep(0.05)
    return False


def test_it_answers_bit_for_bit_as_at_training(saved: Path, model: IsolatedModel) -> None:
    told = torch.load(saved.with_suffix(".told"), weights_only=True)
    assert torch.equal(model(told["given"]), told["answer"])


def test_it_stands_in_its_own_process_and_folder(saved: Path, model: IsolatedModel) -> None:
    process, folder, module = model.call("where")
    assert process != os.getpid()
    assert Path(folder) not in (Path.cwd(), saved.parent)
    assert module == "__main__"
    assert "boxes" not in sys.modules


def test_dataclasses_come_as_plain_types(model: IsolatedModel) -> None:
    answer = model.call("both", torch.ones(2), times=3)
    assert answer["word"] == "one"
    assert torch.equal(answer["y"], 3 * torch.ones(2))


def test_its_errors_come_with_their_traceback_and_it_goes_on(model: IsolatedModel) -> None:
    with pytest.raises(IsolatedError, match=r"(?s)KeyError: 'of the model'.*in fail\n.*raise KeyError"):
        model.call("fail")
    with pytest.raises(IsolatedError, match="lists, tuples and mappings of those, got object"):
        model.call("odd")
    assert model(torch.zeros(1, 3)).shape == (1, 2)


def test_a_process_that_dies_is_told(saved: Path, quick: None) -> None:
    with load(saved) as model:
        with pytest.raises(IsolatedError, match="has ended with exit code -9"):
            model.call("die")
        with pytest.raises(IsolatedError):
            model(torch.zeros(1, 3))


def test_close_ends_the_process_and_leaves_nothing(saved: Path, quick: None) -> None:
    model = load(saved)
    process, folder, _ = model.call("where")
    model.close()
    model.close()
    assert not is_alive(process)
    assert not Path(folder).parent.exists()
    with pytest.raises(IsolatedError, match=r"The isolated model is closed; load it again\."):
        model(torch.zeros(1, 3))


class Rang(Exception):
    """A time limit by a signal, as test runners set it."""


def test_an_answer_never_comes_to_another_question(saved: Path, quick: None) -> None:
    def ring(*_: object) -> None:
        raise Rang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with load(saved) as model:
            process = model.call("where")[0]
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Rang):
                model.call("slow", 1.0)
            with pytest.raises(IsolatedError, match=r"was closed when a call was interrupted \(Rang\); load it again"):
                model.call("echo", 7)
            assert not is_alive(process)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_question_that_cannot_be_sent_changes_nothing(model: IsolatedModel) -> None:
    with pytest.raises(TypeError, match="lists, tuples and mappings of those, got set"):
        model.call("echo", {1})
    assert model.call("echo", 7) == 7


def test_a_ctrl_c_in_the_terminal_does_not_reach_it(model: IsolatedModel) -> None:
    assert os.getsid(model.call("where")[0]) != os.getsid(0)


def test_the_end_of_a_fork_leaves_the_model_alone(saved: Path, tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "forking.py": f"""
            import os, sys
            from pathlib import Path
            from lightning_debugkit.provenance.load_model.loading import load_model
            model = load_model({str(saved)!r}, code="snapshot", trust_code=True, isolated=True)
            folder = model.call("where")[1]
            fork = os.fork()
            if fork == 0:
                try:
                    model.call("echo", 1)
                except RuntimeError as error:
                    print(error, flush=True)
                sys.exit(0)
            os.waitpid(fork, 0)
            print(Path(folder).is_dir(), model.call("echo", 2))
            model.close()
            print(Path(folder).is_dir())
            """
        },
    )
    told = run(tmp_path, "forking.py").splitlines()
    assert told == [
        "The isolated model answers only the process that has loaded it; load it again here.",
        "True 2",
        "False",
    ]


def test_it_needs_trust(saved: Path) -> None:
    with pytest.raises(ValueError, match="needs trust_code=True"):
        load_model(saved, isolated=True)


def test_it_ends_with_its_parent_even_in_the_middle_of_a_call(saved: Path, tmp_path: Path) -> None:
    parent = write(
        tmp_path,
        {
            "parent.py": f"""
            import threading
            from lightning_debugkit.provenance.load_model.loading import load_model
            model = load_model({str(saved)!r}, code="snapshot", trust_code=True, isolated=True)
            print(model.call("where")[0], flush=True)
            model.call("sleep")
            """
        },
    )
    environment = {**os.environ, "PYTHONPATH": str(KIT)}
    with subprocess.Popen(
        [sys.executable, parent / "parent.py"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert is_alive(child)
        process.send_signal(signal.SIGKILL)
        assert ends(child)


def test_a_model_that_cannot_be_built_leaves_no_process(saved: Path, quick: None) -> None:
    with pytest.raises(IsolatedError, match=r"(?s)TypeError.*In the process of the model"):
        load_model(saved, trust_code=True, isolated=True, map_location=7)
