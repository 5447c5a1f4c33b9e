"""Numbers of any make become numpy arrays on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_debugkit.stats.arrays import flags, floats, integers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.bool])
def test_tensors_of_any_type_and_with_gradients_are_read(dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, 0.0]).to(dtype)
    if dtype.is_floating_point:
        values.requires_grad_()
    assert floats(values).dtype == np.float64
    assert floats(values).tolist() == [1.0, 0.0]
    assert integers(values).tolist() == [1, 0]
    assert flags(values).tolist() == [True, False]


def test_a_class_is_a_whole_number() -> None:
    with pytest.raises(ValueError, match="integers needs whole numbers, such as counts or classes; got fractions"):
        integers([1.0, 2.5])
