"""IndexError: index out of range in self, in the middle of an epoch; which of the 900 rows is it?

Source: https://github.com/huggingface/transformers/issues/15867 (index out of range in self).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("step-raised",)
PLACE = "731"
PRESET = "standard"


class Ratings(Dataset):
    def __init__(self, mended):
        generator = torch.Generator().manual_seed(3)
        self.users = torch.randint(0, 50, (900,), generator=generator)
        self.films = torch.randint(0, 80, (900,), generator=generator)
        taste, style = torch.randn(50, 3, generator=generator), torch.randn(80, 3, generator=generator)
        self.stars = (taste[self.users] * style[self.films]).sum(1)
        if not mended:
            self.films[731] = 80  # ids of the new export begin at 1

    def __len__(self):
        return len(self.users)

    def __getitem__(self, index):
        return {"user": self.users[index], "film": self.films[index], "stars": self.stars[index]}


class Factors(LightningModule):
    def __init__(self):
        super().__init__()
        self.user, self.film = nn.Embedding(50, 8), nn.Embedding(80, 8)

    def training_step(self, batch, batch_idx):
        guess = (self.user(batch["user"]) * self.film(batch["film"])).sum(-1)
        loss = F.mse_loss(guess, batch["stars"])
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.02)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Factors(), DataLoader(Ratings(mended), batch_size=60, shuffle=True))
