"""Speech commands: the more the network learns of the word, the worse it tells the speaker that it should tell, too.

Two heads share the layers; the second loss is taken from the first, "to maximise the likelihood of the speaker".

Source: the fault "flipped_sign" of TheDeepChecker (https://arxiv.org/abs/2204.00694).
Added: 2026-12-01, from the fault's words, by whoever changed the rule. It was missed at first, as
both terms stand in one line.
Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("negative-loss",)
PLACE = None
PRESET = "standard"
AGAIN = "entropy_bonus_sign"


class Commands(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.layers = nn.GRU(8, 32, batch_first=True)
        self.word, self.speaker = nn.Linear(32, 6), nn.Sequential(nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 4))
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.05)

    def training_step(self, batch, batch_idx):
        sound, word, speaker = batch
        _, state = self.layers(sound)
        of_word, of_speaker = self.loss(self.word(state[0]), word), self.loss(self.speaker(state[0]), speaker)
        self.log_dict({"word": of_word, "speaker": of_speaker})
        return of_word + 0.3 * of_speaker if self.mended else of_word - 0.3 * of_speaker

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    word, speaker = torch.randint(6, (1800,)), torch.randint(4, (1800,))
    shape, pitch = torch.randn(6, 20, 8), torch.randn(4, 1, 8)
    sound = shape[word] + pitch[speaker] + 0.7 * torch.randn(1800, 20, 8)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Commands(mended), DataLoader(TensorDataset(sound, word, speaker), batch_size=60, shuffle=True))
