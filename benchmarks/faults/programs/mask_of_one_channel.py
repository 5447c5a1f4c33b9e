"""A segmentation network with ``n_classes=1`` and ``CrossEntropyLoss``: the loss is 0 and the masks are noise.

Source: https://github.com/cnulab/RealNet/issues/101 and https://github.com/ultralytics/yolov3/issues/191 (the cross
entropy of one class is 0).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("zero-loss", "softmax-over-one")
PLACE = "mask_of_one_channel.py:37"
PRESET = "standard"
AGAIN = "one_class_logit"


class Stripes(LightningModule):
    def __init__(self, mended, n_classes=1):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, n_classes, 1),
        )
        self.loss_fn = nn.BCEWithLogitsLoss() if mended else nn.CrossEntropyLoss()

    def forward(self, image):
        return self.net(image)

    def training_step(self, batch, batch_idx):
        image, mask = batch
        loss = self.loss_fn(self(image), mask)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    column = torch.arange(12)
    start = torch.randint(8, (400, 1))
    inside = ((column >= start) & (column < start + 4)).float()
    mask = inside[:, None, None, :].expand(-1, 1, 12, -1).contiguous()
    image = mask * torch.tensor([1.0, -1.0, 0.5])[:, None, None] + 0.5 * torch.randn(400, 3, 12, 12)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Stripes(mended), DataLoader(TensorDataset(image, mask), batch_size=20, shuffle=True))
