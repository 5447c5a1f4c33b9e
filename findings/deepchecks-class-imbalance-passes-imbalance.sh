#!/usr/bin/env bash
# deepchecks 0.19.1 (scikit-learn 1.3.2, pandas 2.1.4, numpy 1.26.4, Python 3.11): the one condition of ClassImbalance,
# add_condition_class_ratio_less_than, passes one label in a hundred and warns of classes that are balanced: it asks that
# "the ratio between least frequent label to most frequent label is less than or equal 0.1" (tabular/checks/
# data_integrity/class_imbalance.py 95-116: `if class_ratio >= class_imbalance_ratio_th` warns), so that it cannot be
# used to find imbalance. Seen: passed with 1 %, warned with 50 %.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deepchecks==0.19.1 scikit-learn==1.3.2 pandas==2.1.4 numpy==1.26.4 "setuptools<81"
cat > "$folder/program.py" <<'PROGRAM'
import warnings

warnings.simplefilter("ignore")

import numpy as np
import pandas as pd
from deepchecks.tabular import Dataset
from deepchecks.tabular.checks import ClassImbalance


def passes(share):
    """Whether the default condition passes where the rarer of two labels has this share."""
    label = (np.arange(1000) < 1000 * share).astype(int)
    table = pd.DataFrame({"x": np.random.default_rng(0).random(1000), "label": label})
    check = ClassImbalance().add_condition_class_ratio_less_than()
    result = check.run(Dataset(table, label="label", cat_features=[]))
    print(f"rarer label {share:.0%}: passed: {result.passed_conditions()}")
    return result.passed_conditions()


assert passes(0.01), "imbalance is warned of now"
assert not passes(0.5), "balance passes now"
PROGRAM
"$folder/venv/bin/python" "$folder/program.py"
