"""A Python that starts at once: each process is a fork of one that has torch, Lightning and the kit imported.

`python` is an executable to start where a test would start ``sys.executable``: arguments, environment, folder, streams,
signals and status are those of the program. What depends on a start from nothing, such as what an import brings with
it, needs ``sys.executable``.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

# Lightning looks for s3fs, which takes a second to import, before it saves a file. Of the kit what programs use: which
# of its modules an import brings with it is asked of processes that start from nothing.
_PRELOADED = ("torch", "torchmetrics", "lightning.pytorch.cli", "sklearn.ensemble", "sklearn.datasets")
_KIT = ("lightning_debugkit.callbacks", "lightning_debugkit.autoload", "lightning_debugkit.report.sections.data", "git")
_IF_THERE = ("s3fs",)

# The process that a test starts stands for the fork: it hands its streams over, and ends as the fork does.
_STAND_IN = """#!{python} -IS
import array, json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect({address!r})
asked = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
link.sendmsg([asked], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: link.send(bytes([number])))
status = int(link.recv(8))
if status < 0:
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def python() -> str:
    """Return the path of the executable; ``sys.executable`` where the system cannot hand streams over."""
    if not sys.platform.startswith("linux"):
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    executable, address = folder / "python", folder / "address"
    executable.write_text(_STAND_IN.format(python=sys.executable, address=str(address)))
    executable.chmod(0o700)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # no forks else
    server = subprocess.Popen(
        [sys.executable, __file__, address],
        env=environment,
        stdin=subprocess.PIPE,  # the server ends with it, however this process ends
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    atexit.register(_end, server, folder)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return str(executable)


def _end(server: subprocess.Popen[bytes], folder: Path) -> None:
    server.communicate()
    shutil.rmtree(folder)


@dataclass(frozen=True)
class _Asked:
    """A program to run, as a process gets it."""

    streams: Sequence[int]
    arguments: list[str]
    folder: str
    environment: dict[str, str]


@dataclass(frozen=True)
class _Fork:
    """A program that runs: its number, a descriptor that is ready when it has ended, and what stands for it."""

    process: int
    ended: int
    link: socket.socket

    def attend(self) -> None:
        """Pass a signal on to the program, which does not outlive what stands for it."""
        number = self.link.recv(1)
        os.kill(self.process, number[0] if number else signal.SIGKILL)

    def end(self) -> None:
        """Tell the program's status; nobody may be there to hear it."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            self.link.send(str(status).encode())
        self.close()

    def close(self) -> None:
        os.close(self.ended)
        self.link.close()


def _serve(address: Path) -> _Asked | None:
    """Return, in a fork, what it is to run; in this process None, when the one that has started it is gone."""
    forks: list[_Fork] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(address))
    listener.listen()
    print("ready", flush=True)
    while True:
        descriptors = [each for fork in forks for each in (fork.ended, fork.link)]
        ready = select.select([sys.stdin, listener, *descriptors], [], [])[0]
        if sys.stdin in ready:
            return None
        for fork in list(forks):
            if fork.ended in ready:
                forks.remove(fork)
                fork.end()
            elif fork.link in ready:
                fork.attend()
        if listener in ready:
            link, _ = listener.accept()
            asked = _received(link)
            process = os.fork()
            if process == 0:
                return asked
            forks.append(_Fork(process, os.pidfd_open(process), link))
            for stream in asked.streams:
                os.close(stream)


def _received(link: socket.socket) -> _Asked:
    told, (streams, *_), _, _ = link.recvmsg(1 << 20, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    return _Asked(array.array("i", streams[2]), *json.loads(told))


def _become(asked: _Asked) -> None:
    """Make of this process what ``python ARGUMENTS`` would be."""
    import matplotlib
    import numpy as np

    for place, stream in enumerate(asked.streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(asked.folder)
    os.environ.clear()
    os.environ.update(asked.environment)
    sys.dont_write_bytecode = bool(asked.environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    if "MPLBACKEND" in asked.environment:
        matplotlib.rcParams["backend"] = asked.environment["MPLBACKEND"]
    np.random.seed()
    sys.executable, *rest = asked.arguments
    roots = [root for root in asked.environment.get("PYTHONPATH", "").split(os.pathsep) if root]
    filters = [action for action in asked.environment.get("PYTHONWARNINGS", "").split(",") if action]
    alone = False
    while (kind := rest.pop(0)) in ("-I", "-W"):
        filters += [rest.pop(0)] if kind == "-W" else []
        alone |= kind == "-I"
    for action in filters:
        sys.warnoptions.append(action)
        warnings.simplefilter(action)  # type: ignore[arg-type]
    first = {"-c": "", "-m": asked.folder}.get(kind, str(Path(kind).resolve().parent))
    sys.path[:1] = [] if alone else [first, *roots]  # instead of the folder of this file
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = ModuleType("__main__")
    if kind == "-c":
        name, text = "<string>", rest.pop(0).encode()
    else:
        main.__file__ = name = str(Path(kind).absolute())
        text = Path(kind).read_bytes()
    sys.argv = [kind, *rest]
    exec(compile(text, name, "exec", dont_inherit=True), main.__dict__)


if __name__ == "__main__":
    for name in (*_PRELOADED, *_KIT):
        importlib.import_module(name)
    for name in _IF_THERE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    if (asked := _serve(Path(sys.argv[1]))) is not None:
        _become(asked)
