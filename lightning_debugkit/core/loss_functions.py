"""The loss functions of `torch.nn.functional` that are heard, by what they compare. A new one is added here."""

from __future__ import annotations

INDEX_LOSSES = {"cross_entropy", "nll_loss"}
BINARY_LOSSES = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
DIFFERENCE_LOSSES = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
# Those whose predictions and targets evaluation takes up: of classes, and of values.
CLASS_LOSSES = INDEX_LOSSES | BINARY_LOSSES | {"multi_margin_loss", "multilabel_soft_margin_loss"}
VALUE_LOSSES = DIFFERENCE_LOSSES | {"poisson_nll_loss", "gaussian_nll_loss"}
# Those that the checks of the first steps understand.
CHECKED_LOSSES = INDEX_LOSSES | BINARY_LOSSES | DIFFERENCE_LOSSES | {"kl_div"}
