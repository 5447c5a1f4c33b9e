"""Optimizers by name, with their own default rates, on one small network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.libraries.library import QUIET, Library, Program

LIBRARY = Library(
    "pytorch-optimizer",
    ("pytorch-optimizer==4.1.0", "schedulefree==1.4.1", "lightning", "scikit-learn"),
    ("pytorch_optimizer", "schedulefree", "lightning.pytorch"),
)
# Of 112 that take the usual arguments: those that torch does not have, or has in another form.
NAMES = """
AccSGD AdaBelief AdaBound AdaFactor Adai Adalite AdamG AdaMod AdamP AdamS Adan AdaNorm AdaPNM AdaShift
AdaSmooth AdEMAMix ADOPT AggMo Amos APOLLO AvaGrad BCOS CAME Conda DAdaptAdam DASH DiffGrad
EmoNavi EXAdam FAdam Fira FlashAdamW Fromage FTRL GaLore Grams Gravity GrokFastAdamW Kron Lamb LaProp
Lion MADGRAD MARS MSVAG Nero NovoGrad PID Prodigy QHAdam Ranger SCION ScalableShampoo SGDP SignSGD SM3 SOAP SPAM
StableAdamW SWATS Tiger VSGD Yogi
"""

# Where its own rate does not learn the digits in so few steps, or kills the hidden layer.
RATES = {
    **dict.fromkeys(
        (
            "AccSGD",
            "Adai",
            "AdaMod",
            "AggMo",
            "DAdaptAdam",
            "FTRL",
            "Gravity",
            "MSVAG",
            "PID",
            "Ranger",
            "SGDP",
        ),
        0.1,
    ),
    **dict.fromkeys(("AdaShift", "Amos", "GrokFastAdamW", "Lamb", "Lion", "SCION", "ScalableShampoo"), 0.01),
}


def _digits() -> tuple[Any, Any]:
    import torch
    from sklearn.datasets import load_digits
    from torch.utils.data import DataLoader, TensorDataset

    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    train, val = torch.utils.data.random_split(data, [1500, 297])
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=64)


def _fit(make: Callable[[Any], Any], has_modes: bool = False) -> Any:
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from torch import nn

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

        def training_step(self, batch: Any, _: int) -> Any:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return make(self.net)

    class WithModes(Net):
        """A schedule-free optimizer is told what its weights are for, as its documentation asks."""

        def on_train_epoch_start(self) -> None:
            self.optimizers().optimizer.train()

        def on_validation_start(self) -> None:
            self.optimizers().optimizer.eval()

        def on_validation_end(self) -> None:
            self.optimizers().optimizer.train()

        def on_train_end(self) -> None:
            self.optimizers().optimizer.eval()

    torch.set_num_threads(1)
    model = WithModes() if has_modes else Net()
    Trainer(max_epochs=4, num_sanity_val_steps=0, **QUIET).fit(model, *_digits())
    return model


def _named(name: str) -> Any:
    import pytorch_optimizer

    rate = {"lr": RATES[name]} if name in RATES else {}
    return _fit(lambda net: pytorch_optimizer.load_optimizer(name.lower())(net.parameters(), **rate))


def _muon(kind: str) -> Any:
    """Matrices by Muon, the other parameters by the Adam that is in it."""
    import pytorch_optimizer

    def make(net: Any) -> Any:
        matrices, others = ([p for p in net.parameters() if (p.ndim >= 2) is is_matrix] for is_matrix in (True, False))
        groups = [{"params": matrices, "use_muon": True}, {"params": others, "use_muon": False}]
        return getattr(pytorch_optimizer, kind)(groups)

    return _fit(make)


def _schedule_free(kind: str, **options: Any) -> Any:
    import schedulefree

    return _fit(lambda net: getattr(schedulefree, kind)(net.parameters(), **options), has_modes=True)


for _name in NAMES.split():
    LIBRARY.programs[_name] = Program(_name, partial(_named, _name))
for _name in ("Muon", "AdaMuon"):
    LIBRARY.programs[_name] = Program(_name, partial(_muon, _name))
LIBRARY.programs["AdamWScheduleFree"] = Program("AdamWScheduleFree", partial(_schedule_free, "AdamWScheduleFree"))
for _name, _rate in (("RAdamScheduleFree", 0.03), ("SGDScheduleFree", 0.1)):
    LIBRARY.programs[_name] = Program(_name, partial(_schedule_free, _name, lr=_rate))
