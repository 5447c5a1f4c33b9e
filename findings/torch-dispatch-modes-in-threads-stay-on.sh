#!/usr/bin/env bash
# torch 2.13.0 (Python 3.11): that a dispatch mode is on, torch notes in globals of the process (torch/utils/_python_dispatch.py,
# `TorchDispatchMode.__enter__` keeps the note of before, `__exit__` puts it back), though the modes themselves are a stack
# of each thread. Two threads that count FLOPs side by side, with `FlopCounterMode`, each as documented, leave the note on
# for good: the second to enter has kept "on", and is the last to put its note back.
# Seen: with no mode on any more, `is_in_torch_dispatch_mode()` stays true in all threads; and a compiled function that is
# called under a mode which passes over compiled code (`ignore_compile_internals`) is compiled anew: 4 graphs in 6 calls,
# instead of 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.2.6
cat > "$folder/program.py" <<'PROGRAM'
import threading

import torch
from torch.utils._python_dispatch import TorchDispatchMode, is_in_torch_dispatch_mode
from torch.utils.flop_counter import FlopCounterMode


class Looks(TorchDispatchMode):
    @classmethod
    def ignore_compile_internals(cls):
        return True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def graphs():
    """Return how many graphs are made of a function that is called six times, every other time under a mode."""
    made = []

    def backend(graph, inputs):
        made.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(lambda x: torch.sin(x) + 1, backend=backend)
    for call in range(6):
        if call % 2:
            with Looks():
                compiled(torch.ones(3))
        else:
            compiled(torch.ones(3))
    return len(made)


def count_side_by_side():
    """Two threads count; the first to begin is the first to end."""
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first():
        with FlopCounterMode(display=False):
            first_is_in.set()
            second_is_in.wait()
        first_is_out.set()

    def second():
        first_is_in.wait()
        with FlopCounterMode(display=False):
            second_is_in.set()
            first_is_out.wait()

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


before = is_in_torch_dispatch_mode(), graphs()
count_side_by_side()
after = is_in_torch_dispatch_mode(), graphs()
print("a mode is noted as on, and graphs in six calls: before", before, "after", after)
assert before == (False, 1), "without threads it is otherwise"
assert after == (True, 4), "after threads it is otherwise"
PROGRAM
cd "$folder"
OMP_NUM_THREADS=1 timeout 200 "$folder/venv/bin/python" program.py 2>/dev/null
