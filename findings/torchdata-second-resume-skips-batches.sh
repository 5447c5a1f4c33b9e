#!/usr/bin/env bash
# torchdata 0.11.0 (torch 2.13.0, Python 3.11): a StatefulDataLoader over an IterableDataset that keeps no state of its own
# is resumed by pulling `_num_yielded` batches again, and each of them is counted once more
# (stateful_dataloader.py, _StatefulSingleProcessDataLoaderIter.load_state_dict: `self._num_yielded = state_dict[...]`, then
# `next(self)` so many times). The first resume is right; its state_dict says twice as many batches, so that the second
# resume skips as many as had been used before the first, or raises StopIteration while the iterator is made.
# Seen: after 3 batches, a resume, 1 batch and a resume, the next batch is [28, 29, 30, 31]; expected [16, 17, 18, 19].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchdata==0.11.0
cat > "$folder/program.py" <<'PROGRAM'
import warnings

from torch.utils.data import IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

warnings.simplefilter("ignore")


class Numbers(IterableDataset):
    def __iter__(self):
        return iter(range(40))


def resumed(state=None):
    loader = StatefulDataLoader(Numbers(), batch_size=4)
    if state is not None:
        loader.load_state_dict(state)
    return loader, iter(loader)


loader, batches = resumed()
for _ in range(3):
    next(batches)
first = loader.state_dict()

loader, batches = resumed(first)
after_one = next(batches).tolist()
second = loader.state_dict()

loader, batches = resumed(second)
after_two = next(batches).tolist()

print("after the first resume:", after_one, "counted:", first["_num_yielded"], "then", second["_num_yielded"])
print("after the second resume:", after_two, "where [16, 17, 18, 19] follows")
assert after_one == [12, 13, 14, 15], "the first resume has changed"
assert (first["_num_yielded"], second["_num_yielded"]) == (3, 7), "batches are counted in another way"
assert after_two == [28, 29, 30, 31], "the second resume has changed"
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" 2>/dev/null
