"""A GPT with scaled_dot_product_attention(is_causal=True), dropout that eval switches off, warm-up and cosine.

Source: https://github.com/karpathy/nanoGPT
Added: 2026-11-28. Rules changed because of it: none.
"""

import math

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Block(nn.Module):
    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.n1, self.n2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.n1(x)).chunk(3, -1))
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 if self.training else 0.0, is_causal=True)
        x = x + self.proj(h.transpose(1, 2).flatten(2))
        return x + self.mlp(self.n2(x))


class GPT(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(32, 32), nn.Embedding(24, 32)
        self.blocks, self.norm, self.head = (
            nn.Sequential(Block(), Block()),
            nn.LayerNorm(32),
            nn.Linear(32, 32, bias=False),
        )
        self.apply(self.init)

    @staticmethod
    def init(module):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def step(self, ids):
        x = self.token(ids[:, :-1]) + self.position(torch.arange(ids.shape[1] - 1, device=ids.device))
        return F.cross_entropy(self.head(self.norm(self.blocks(x))).flatten(0, 1), ids[:, 1:].flatten())

    def training_step(self, ids, batch_idx):
        return self.step(ids)

    def validation_step(self, ids, batch_idx):
        self.log("val_loss", self.step(ids))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
        total = self.trainer.estimated_stepping_batches

        def rate(step):
            return min(1, (step + 1) / 10) * (0.55 + 0.45 * math.cos(math.pi * min(1, step / total)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def texts(size: int) -> torch.Tensor:
    steps = torch.tensor([1, 1, 1, 5])[torch.randint(4, (size, 24))]
    return (torch.randint(32, (size, 1)) + steps.cumsum(1)) % 32


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(
        max_epochs=2, gradient_clip_val=1.0, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(GPT(), DataLoader(texts(2000), 32, shuffle=True), DataLoader(texts(200), 50))
