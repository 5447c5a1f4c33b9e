"""A Unet of segmentation-models-pytorch with its focal and Tversky losses, from scratch.

Source: https://smp.readthedocs.io/en/latest/losses.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Roads(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        self.net = smp.Unet(
            "resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(32, 16, 8), in_channels=1
        )
        self.focal, self.tversky = smp.losses.FocalLoss("binary"), smp.losses.TverskyLoss("binary")

    def step(self, batch):
        logits = self.net(batch[0])
        return self.focal(logits, batch[1]) + self.tversky(logits, batch[1])

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    try:
        import segmentation_models_pytorch  # noqa: F401 - whether it is there is all that is asked
    except Exception:  # it needs torchvision, whose build may not fit
        raise SystemExit("skipped: segmentation-models-pytorch cannot be imported") from None
    seed_everything(seed)
    mask = torch.zeros(300, 1, 32, 32)
    for i, row in enumerate(torch.randint(2, 28, (300,)).tolist()):
        mask[i, 0, row : row + 3] = 1
    data = TensorDataset(mask + 0.5 * torch.randn_like(mask), mask)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train, val = torch.utils.data.random_split(data, [240, 60])
    trainer.fit(Roads(), DataLoader(train, 8, shuffle=True), DataLoader(val, 20))
