#!/usr/bin/env bash
# jsonargparse 4.53.0 (Python 3.11): where a parameter's type is a class with brackets, `Data[Any]` or `Data[int]`, the
# class_path of a subclass is accepted and printed, and an instance of the base class is made in its place, without a word.
# (_typehints.py 2486-2490, adapt_class_type: `if is_generic_class(typehint) and not is_protocol(typehint): val_class =
# typehint`, else the class of class_path; this val_class gives the arguments that are known, and is called in line 2532.)
# Seen: with `Data` the class Numbers is made; with `Data[Any]`, `Data[int]`, Optional and list of them it is Data, with
# the defaults of Data; an argument that Numbers alone has is refused: "Option 'high' is not accepted". Expected: Numbers.
# LightningCLI 2.6.6 passes it on: `dataset: Dataset[Any]` of torch 2.13.0 gets a bare Dataset. Without brackets all is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jsonargparse==4.53.0
cat > "$folder/program.py" <<'PROGRAM'
from argparse import ArgumentError
from typing import Any, Generic, Optional, TypeVar

from jsonargparse import ArgumentParser

T = TypeVar("T")


class Data(Generic[T]):
    def __init__(self, low: int = 0) -> None:
        self.low = low


class Numbers(Data[int]):
    def __init__(self, low: int = 10, high: int = 20) -> None:
        super().__init__(low)
        self.high = high


def made(kind, text):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=kind)
    config = parser.parse_args([f"--data={text}"])
    data = parser.instantiate(config).data
    (data,) = data if isinstance(data, list) else [data]
    print(f"{kind}: the config says {config.data}, the object is {type(data).__name__} with {vars(data)}")
    return type(data), data.low


assert made(Data, "Numbers") == (Numbers, 10), "a type without brackets has changed"
for kind in (Data[Any], Data[int], Optional[Data[int]]):
    assert made(kind, "Numbers") == (Data, 0), "a type with brackets has changed"
assert made(list[Data[int]], "[Numbers]") == (Data, 0), "a list has changed"

refused = ""
try:
    made(Data[int], "{class_path: Numbers, init_args: {high: 30}}")
except ArgumentError as error:
    refused = str(error)
print(refused)
assert "Option 'high' is not accepted" in refused, "an argument of the subclass is accepted now"
PROGRAM
"$folder/venv/bin/python" "$folder/program.py"
