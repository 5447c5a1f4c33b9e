"""What Lightning offers beside a plain fit: tuners, averaging, pruning, staged freezing, limits, joined loaders."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("lightning", ("lightning", "scikit-learn"), ("lightning.pytorch", "sklearn.datasets"))


def _data() -> tuple[Any, Any, Any]:
    """Digits for training, validation and test."""
    import torch
    from sklearn.datasets import load_digits
    from torch.utils.data import TensorDataset, random_split

    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    train, val, test = random_split(data, [1200, 297, 300])
    return train, val, test


def _loaders(batch: int = 64) -> tuple[Any, Any, Any]:
    from torch.utils.data import DataLoader

    train, val, test = _data()
    return DataLoader(train, batch, shuffle=True), DataLoader(val, batch), DataLoader(test, batch)


def _net(**options: Any) -> Any:
    """A classifier of the digits: ``lr``, ``batch_size``, ``norm`` and ``scheduler`` as in the options."""
    import torch
    from lightning.pytorch import LightningModule
    from torch import nn
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

    class Net(LightningModule):
        def __init__(
            self,
            lr: float = 2e-3,
            batch_size: int = 64,
            norm: bool = False,
            scheduler: Any = None,
        ) -> None:
            super().__init__()
            self.lr, self.batch_size, self.scheduler = lr, batch_size, scheduler
            between = [nn.BatchNorm1d(32)] if norm else []
            self.backbone = nn.Sequential(nn.Linear(64, 32), *between, nn.ReLU())
            self.head = nn.Linear(32, 10)
            kinds = MetricCollection({"accuracy": MulticlassAccuracy(10), "f1": MulticlassF1Score(10)})
            self.train_metrics, self.val_metrics = kinds.clone("train_"), kinds.clone("val_")
            self.test_metrics = kinds.clone("test_")

        def forward(self, x: Any) -> Any:
            return self.head(self.backbone(x))

        def training_step(self, batch: Any, _: int) -> Any:
            logits = self(batch[0])
            loss = nn.functional.cross_entropy(logits, batch[1])
            self.train_metrics(logits, batch[1])
            self.log_dict(self.train_metrics, on_step=False, on_epoch=True)
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
            logits = self(batch[0])
            self.log("val_loss", nn.functional.cross_entropy(logits, batch[1]))
            if not dataloader_idx:
                self.val_metrics(logits, batch[1])
                self.log_dict(self.val_metrics, add_dataloader_idx=False)

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.test_metrics(self(batch[0]), batch[1])
            self.log_dict(self.test_metrics)

        def predict_step(self, batch: Any, _: int) -> Any:
            return self(batch[0]).argmax(-1)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam((p for p in self.parameters() if p.requires_grad), self.lr)
            return optimizer if self.scheduler is None else [[optimizer], [self.scheduler(optimizer)]]

    torch.set_num_threads(1)
    return Net(**options)


def _trainer(**options: Any) -> Any:
    from lightning.pytorch import Trainer

    return Trainer(**{**QUIET, "max_epochs": 3, **options})


def _fit(net: dict[str, Any] | None = None, **options: Any) -> Any:
    model = _net(**(net or {}))
    train, val, _ = _loaders()
    _trainer(**options).fit(model, train, val)
    return model


@LIBRARY.training()
def learning_rate_finder() -> Any:
    from lightning.pytorch.tuner import Tuner

    model, trainer = _net(), _trainer()
    train, val, _ = _loaders()
    Tuner(trainer).lr_find(model, train, val, num_training=60)
    trainer.fit(model, train, val)
    return model


@LIBRARY.training()
def learning_rate_finder_as_a_callback() -> Any:
    from lightning.pytorch.callbacks import LearningRateFinder

    return _fit(callbacks=[LearningRateFinder(num_training_steps=60)])


@LIBRARY.training()
def batch_size_scaler() -> Any:
    from lightning.pytorch.tuner import Tuner
    from torch.utils.data import DataLoader

    base = type(_net())

    class Net(base):  # type: ignore[misc, valid-type]  # a class that is made where Lightning is
        def train_dataloader(self) -> Any:
            return DataLoader(_data()[0], self.batch_size, shuffle=True)

        def val_dataloader(self) -> Any:
            return _loaders()[1]

    model, trainer = Net(), _trainer()
    Tuner(trainer).scale_batch_size(model, mode="binsearch", init_val=16, max_trials=3, steps_per_trial=2)
    trainer.fit(model)
    return model


@LIBRARY.training()
def all_stages() -> Any:
    model, trainer = _net(), _trainer()
    train, val, test = _loaders()
    trainer.validate(model, val, verbose=False)
    trainer.fit(model, train, val)
    trainer.validate(model, val, verbose=False)
    trainer.test(model, test, verbose=False)
    trainer.predict(model, test)
    return model


@LIBRARY.training()
def predictions_written_by_batch_and_epoch() -> Any:
    import torch
    from lightning.pytorch.callbacks import BasePredictionWriter

    class Writer(BasePredictionWriter):
        def write_on_batch_end(self, _: Any, __: Any, prediction: Any, *rest: Any) -> None:
            torch.save(prediction, f"batch-{rest[2]}.pt")

        def write_on_epoch_end(self, _: Any, __: Any, predictions: Any, ___: Any) -> None:
            torch.save(predictions, "epoch.pt")

    model, trainer = _net(), _trainer(callbacks=[Writer("batch_and_epoch")])
    train, val, test = _loaders()
    trainer.fit(model, train, val)
    trainer.predict(model, test, return_predictions=False)
    return model


@LIBRARY.training()
def data_module_reloaded_each_epoch() -> Any:
    from lightning.pytorch import LightningDataModule
    from torch.utils.data import DataLoader

    class Digits(LightningDataModule):
        def setup(self, stage: str) -> None:
            self.train, self.val, _ = _data()

        def train_dataloader(self) -> Any:
            return DataLoader(self.train, 32 * (1 + self.trainer.current_epoch), shuffle=True)

        def val_dataloader(self) -> Any:
            return DataLoader(self.val, 64)

    model = _net()
    _trainer(reload_dataloaders_every_n_epochs=1).fit(model, datamodule=Digits())
    return model


def _combined(mode: str) -> Any:
    """Digits with labels beside other ones that are to be rebuilt."""
    from lightning.pytorch.utilities import CombinedLoader
    from torch import nn
    from torch.utils.data import DataLoader

    base = type(_net())

    class Net(base):  # type: ignore[misc, valid-type]  # a class that is made where Lightning is
        def __init__(self) -> None:
            super().__init__()
            self.rebuild = nn.Linear(32, 64)

        def training_step(self, batch: Any, _: int) -> Any:
            losses = []
            if (labelled := batch.get("labelled")) is not None:
                losses.append(nn.functional.cross_entropy(self(labelled[0]), labelled[1]))
            if (plain := batch.get("plain")) is not None:
                losses.append(nn.functional.mse_loss(self.rebuild(self.backbone(plain[0])), plain[0]))
            return sum(losses)

    train, val, test = _data()
    labelled, plain = DataLoader(train, 64, shuffle=True), DataLoader(test, 48, shuffle=True)
    model = Net()
    loader = CombinedLoader({"labelled": labelled, "plain": plain}, mode)
    _trainer(max_epochs=4).fit(model, loader, DataLoader(val, 64))
    return model


@LIBRARY.training()
def combined_min_size() -> Any:
    return _combined("min_size")


@LIBRARY.training()
def combined_max_size_cycle() -> Any:
    return _combined("max_size_cycle")


@LIBRARY.training()
def combined_max_size() -> Any:
    return _combined("max_size")


@LIBRARY.training()
def combined_sequential_in_validation() -> Any:
    from lightning.pytorch.utilities import CombinedLoader
    from torch.utils.data import DataLoader

    train, val, test = _data()
    model = _net()
    parts = CombinedLoader([DataLoader(val, 64), DataLoader(test, 64)], "sequential")
    _trainer().fit(model, DataLoader(train, 64, shuffle=True), parts)
    return model


@LIBRARY.training()
def stochastic_weight_averaging() -> Any:
    from lightning.pytorch.callbacks import StochasticWeightAveraging

    return _fit({"norm": True}, max_epochs=6, callbacks=[StochasticWeightAveraging(1e-3, swa_epoch_start=3)])


@LIBRARY.training()
def averaged_weights() -> Any:
    from lightning.pytorch.callbacks import EMAWeightAveraging

    return _fit({"norm": True}, callbacks=[EMAWeightAveraging(decay=0.9)])


@LIBRARY.training()
def weight_averaging() -> Any:
    from lightning.pytorch.callbacks import WeightAveraging

    return _fit(callbacks=[WeightAveraging()])


@LIBRARY.training()
def backbone_finetuning() -> Any:
    from lightning.pytorch.callbacks import BackboneFinetuning

    freeze = BackboneFinetuning(unfreeze_backbone_at_epoch=2, backbone_initial_lr=1e-3)
    return _fit({"norm": True, "lr": 5e-3}, max_epochs=5, callbacks=[freeze])


@LIBRARY.training()
def accumulation_by_schedule() -> Any:
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    return _fit({"lr": 5e-3}, max_epochs=5, callbacks=[GradientAccumulationScheduler({0: 1, 2: 2, 4: 4})])


def _pruned(**options: Any) -> Any:
    from lightning.pytorch.callbacks import ModelPruning

    return _fit(max_epochs=4, callbacks=[ModelPruning(**options)])


@LIBRARY.training()
def pruning() -> Any:
    return _pruned(pruning_fn="l1_unstructured", amount=0.2)


@LIBRARY.training()
def pruning_as_a_lottery_ticket() -> Any:
    return _pruned(pruning_fn="l1_unstructured", amount=0.2, use_lottery_ticket_hypothesis=True)


@LIBRARY.training()
def manual_optimization() -> Any:
    base = type(_net())

    class Manual(base):  # type: ignore[misc, valid-type]  # a class that is made where Lightning is
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    model = Manual()
    train, val, _ = _loaders()
    _trainer().fit(model, train, val)
    return model


@LIBRARY.training()
def no_inference_mode() -> Any:
    model, trainer = _net(), _trainer(inference_mode=False)
    train, val, test = _loaders()
    trainer.fit(model, train, val)
    trainer.test(model, test, verbose=False)
    return model


@LIBRARY.training()
def overfit_batches() -> Any:
    return _fit(overfit_batches=2, max_epochs=20)


@LIBRARY.training()
def no_training_batches() -> Any:
    return _fit(limit_train_batches=0)


@LIBRARY.training()
def no_validation_batches() -> Any:
    return _fit(limit_val_batches=0)


@LIBRARY.training()
def whole_sanity_check() -> Any:
    return _fit(num_sanity_val_steps=-1)


@LIBRARY.training()
def limited_by_share() -> Any:
    return _fit(limit_train_batches=0.5, limit_val_batches=0.5, val_check_interval=0.5)


@LIBRARY.training()
def limited_by_time_and_steps() -> Any:
    return _fit(max_epochs=-1, max_steps=25, max_time={"hours": 1}, check_val_every_n_epoch=None, val_check_interval=10)


@LIBRARY.training()
def fast_dev_run() -> Any:
    return _fit(fast_dev_run=3)


@LIBRARY.training()
def cycle_of_rates_each_step() -> Any:
    import torch

    def cycle(optimizer: Any) -> Any:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=76)
        return {"scheduler": schedule, "interval": "step"}

    return _fit({"scheduler": cycle}, max_epochs=4)


@LIBRARY.training()
def rate_lowered_on_a_plateau() -> Any:
    import torch
    from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, Timer
    from lightning.pytorch.loggers import CSVLogger

    def plateau(optimizer: Any) -> Any:
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        return {"scheduler": schedule, "monitor": "val_loss"}

    seen = [EarlyStopping("val_loss", patience=3), LearningRateMonitor("step"), Timer("00:01:00:00")]
    return _fit({"scheduler": plateau}, max_epochs=8, callbacks=seen, logger=CSVLogger("."))


@LIBRARY.training()
def checkpointed_and_resumed() -> Any:
    from lightning.pytorch.callbacks import ModelCheckpoint

    train, val, test = _loaders()
    kept = {"enable_checkpointing": True}
    save = ModelCheckpoint("kept", monitor="val_loss", save_last=True, save_top_k=2)
    _trainer(**kept, callbacks=[save]).fit(_net(), train, val)
    save = ModelCheckpoint("kept", monitor="val_loss", save_last=True, save_top_k=2)
    model, trainer = _net(), _trainer(**kept, callbacks=[save], max_epochs=5)
    trainer.fit(model, train, val, ckpt_path="kept/last.ckpt")
    trainer.test(model, test, ckpt_path="best", verbose=False)
    return model


@LIBRARY.training()
def half_precision() -> Any:
    return _fit({"norm": True}, precision="bf16-mixed")


@LIBRARY.training()
def double_precision() -> Any:
    return _fit(precision="64-true")


@LIBRARY.training()
def barebones() -> Any:
    from lightning.pytorch import Trainer

    model = _net()
    train, val, _ = _loaders()
    Trainer(barebones=True, max_epochs=2, accelerator="cpu").fit(model, train, val)
    return model


@LIBRARY.training()
def one_trainer_two_models() -> Any:
    trainer = _trainer()
    train, val, _ = _loaders()
    first, second = _net(), _net(norm=True)
    trainer.fit(first, train, val)
    trainer.fit_loop.max_epochs = 6
    trainer.fit(second, train, val)
    return [first, second]


@LIBRARY.training()
def sampler_with_weights() -> Any:
    import torch
    from torch.utils.data import DataLoader, WeightedRandomSampler

    train, val, _ = _data()
    weights = torch.ones(len(train))
    loader = DataLoader(train, 64, sampler=WeightedRandomSampler(weights, len(train)))
    model = _net()
    _trainer().fit(model, loader, DataLoader(val, 64))
    return model


@LIBRARY.training()
def stream_without_a_length() -> Any:
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    train, val, _ = _data()

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return (train[i] for i in torch.randperm(len(train)).tolist())

    model = _net()
    _trainer(val_check_interval=10, check_val_every_n_epoch=None, max_steps=40).fit(
        model, DataLoader(Stream(), 64), DataLoader(val, 64)
    )
    return model


@LIBRARY.training()
def checkpoint_only_on_exception() -> Any:
    from lightning.pytorch.callbacks import LambdaCallback, OnExceptionCheckpoint

    seen = [OnExceptionCheckpoint("."), LambdaCallback(on_train_start=lambda *_: None)]
    return _fit(callbacks=seen, enable_checkpointing=True)


@LIBRARY.training()
def profiled() -> Any:
    from lightning.pytorch.callbacks import ThroughputMonitor
    from lightning.pytorch.loggers import CSVLogger
    from lightning.pytorch.profilers import SimpleProfiler

    watch = [ThroughputMonitor(batch_size_fn=lambda batch: len(batch[0]))]
    return _fit(callbacks=watch, logger=CSVLogger("."), profiler=SimpleProfiler("."))


@LIBRARY.training()
def gradients_clipped_and_accumulated() -> Any:
    return _fit({"lr": 5e-3}, accumulate_grad_batches=2, gradient_clip_val=1.0, max_epochs=5)
