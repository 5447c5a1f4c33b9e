"""Bags of words, weighted by tf-idf: of 400 features, 390 are 0 in each sample.

Source: https://scikit-learn.org/stable/auto_examples/text/plot_document_classification_20newsgroups.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Documents(Dataset):
    def __init__(self, matrix, label: np.ndarray) -> None:
        self.matrix, self.label = matrix, label

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        return {"tfidf": self.matrix[i].toarray()[0].astype("float32"), "label": int(self.label[i])}


class Newsgroups(LightningModule):
    def __init__(self, words: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(words, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["tfidf"]), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch["tfidf"]), batch["label"]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, 1800)
    own = rng.integers(0, 100, (1800, 12)) + 100 * label[:, None]
    ids = np.where(rng.random((1800, 12)) < 0.5, own, rng.integers(0, 400, (1800, 12)))
    texts = [" ".join(f"w{i}" for i in row) for row in ids]
    vectorizer = TfidfVectorizer().fit(texts[:1500])
    matrix = vectorizer.transform(texts)
    model = Newsgroups(matrix.shape[1])
    train, val = Documents(matrix[:1500], label[:1500]), Documents(matrix[1500:], label[1500:])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model, DataLoader(train, 30, shuffle=True), DataLoader(val, 100))
