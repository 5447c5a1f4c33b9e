"""What runs in the process of an isolated model: load it once, then answer calls."""

from __future__ import annotations

import dataclasses
import importlib
import io
import operator
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


def encoded_call(message: Mapping[str, Any]) -> bytes:
    """Return a message, plain types and tensors, as `torch.save` writes it.

    Raises:
        TypeError: It holds something else.
    """
    buffer = io.BytesIO()
    torch.save(plain_answer(message), buffer)
    return buffer.getvalue()


def decoded_call(data: bytes) -> Any:
    """Return the message that `encoded_call` has written; neither side unpickles classes of the other."""
    return torch.load(io.BytesIO(data), weights_only=True)


def send(stream: Any, data: bytes) -> None:
    """Write one message."""
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: Any) -> bytes:
    """Read one message; raises `EOFError` where the other side is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    length = _LENGTH.unpack(head)[0]
    data: bytes = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def plain_answer(value: Any) -> Any:
    """Return ``value`` as tensors on the CPU, numbers, text, and lists, tuples and mappings of them.

    Of a class that extends one of these types, the plain value comes across: pickled as it is, it would be a class that
    the other side may not know.

    Raises:
        TypeError: It holds something else.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().as_subclass(torch.Tensor)
    if value is None or isinstance(value, bool | torch.device | torch.dtype):
        return value
    if isinstance(value, complex):
        return torch.tensor(complex(value), dtype=torch.complex128)  # not every torch reads the number itself
    for kind in (int, float, str, bytes):
        if isinstance(value, kind):
            return _exactly(kind, value)
    if isinstance(value, Mapping):
        return {plain_answer(key): plain_answer(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_answer(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        items = [plain_answer(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if hasattr(value, "__array__"):
        return torch.as_tensor(value)
    raise TypeError(
        "An isolated model needs tensors, numbers, text, and lists, tuples and mappings of those, got "
        f"{type(value).__name__}."
    )


def _exactly(kind: type, value: Any) -> Any:
    """Return the plain value of a NumPy number, an enumeration's member or the like."""
    if type(value) is kind:
        return value
    # By the type's own methods: a class may print itself as it likes.
    own: dict[type, Any] = {int: int.__index__, float: float.__float__, str: str.__str__, bytes: memoryview}
    return kind(own[kind](value))


def main() -> None:
    """Serve until the other side is gone."""
    # What the model prints must not get between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, questions), daemon=True).start()
    model: Any = None
    while True:
        data = questions.get()
        try:
            question = decoded_call(data)
            if model is None:
                model = _loaded(question)
                value = None
            else:
                with torch.no_grad():
                    value = getattr(model, question["method"])(*question["args"], **question["kwargs"])
            answer = encoded_call({"value": value})
        except BaseException as error:
            answer = encoded_call({"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()})
        send(answers, answer)


def _listen(stream: BinaryIO, questions: queue.Queue[bytes]) -> None:
    """Pass questions on; when the other side is gone, end at once, even in the middle of one."""
    try:
        while True:
            questions.put(receive(stream))
    except BaseException:
        os._exit(0)


def _loaded(wanted: Mapping[str, Any]) -> torch.nn.Module:
    from lightning_debugkit.checkpointing.sharded_weights import load_sharded
    from lightning_debugkit.provenance.load_model.main_module import MainModule

    sys.argv = list(wanted["arguments"]) or sys.argv
    if wanted["main"]:
        file = Path(wanted["main"]).absolute()
        package = (wanted["main_module"] or "").rpartition(".")[0]
        sys.modules["__main__"] = MainModule("__main__", str(file), file.read_bytes(), package)
    found = operator.attrgetter(wanted["qualname"])(importlib.import_module(wanted["module"]))
    where, strict = wanted["map_location"], wanted["strict"]
    options = wanted["hyper_parameters"]
    model = load_sharded(found, Path(wanted["path"]), weights_only=False, map_location=where, strict=strict, **options)
    return model.eval()
