"""What runs in the process of an isolated model: load it once, then answer calls."""

from __future__ import annotations

import dataclasses
import importlib
import io
import os
import queue
import struct
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

_LENGTH = struct.Struct("<Q")


def send(stream: Any, message: Mapping[str, Any]) -> None:
    """Write one message: plain types and tensors, as `torch.save` writes them."""
    buffer = io.BytesIO()
    torch.save(plain(message), buffer)
    data = buffer.getbuffer()
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: Any) -> Any:
    """Read one message; neither side unpickles classes of the other.

    Raises:
        EOFError: The other side is gone.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    length = _LENGTH.unpack(head)[0]
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return torch.load(io.BytesIO(data), weights_only=True)


def plain(value: Any) -> Any:
    """Return ``value`` as tensors on the CPU, numbers, text and containers of them.

    Raises:
        TypeError: It holds something else.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.device | torch.dtype):
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        items = [plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if hasattr(value, "__array__"):
        return torch.as_tensor(value)
    raise TypeError(
        f"An isolated model needs tensors, numbers, text and containers of those, got {type(value).__name__}."
    )


def main() -> None:
    """Serve until the other side is gone."""
    # What the model prints must not get between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, questions), daemon=True).start()
    model: Any = None
    while True:
        question = questions.get()
        try:
            if model is None:
                model = _loaded(question)
                value = None
            else:
                with torch.no_grad():
                    value = getattr(model, question["method"])(*question["args"], **question["kwargs"])
            answer = {"value": plain(value)}
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        send(answers, answer)


def _listen(stream: BinaryIO, questions: queue.Queue[Any]) -> None:
    """Pass questions on; when the other side is gone, end at once, even in the middle of one."""
    try:
        while True:
            questions.put(receive(stream))
    except BaseException:
        os._exit(0)


def _loaded(wanted: Mapping[str, Any]) -> torch.nn.Module:
    from lightning_debugkit.callbacks.shards import load
    from lightning_debugkit.provenance.main_module import MainModule

    sys.argv = list(wanted["arguments"]) or sys.argv
    if wanted["main"]:
        file = Path(wanted["main"]).absolute()
        package = (wanted["main_module"] or "").rpartition(".")[0]
        sys.modules["__main__"] = MainModule("__main__", str(file), file.read_bytes(), package)
    found: Any = importlib.import_module(wanted["module"])
    for name in wanted["qualname"].split("."):
        found = getattr(found, name)
    where, strict = wanted["map_location"], wanted["strict"]
    options = wanted["hyper_parameters"]
    model = load(found, Path(wanted["path"]), weights_only=False, map_location=where, strict=strict, **options)
    return model.eval()
