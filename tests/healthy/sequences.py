"""Sequences and text: recurrent nets, transformers, language models, embeddings that mostly rest."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset

from healthy.parts import Program, Supervised, images, loader, mlp, program, text

PAD = 0


class LastState(nn.Module):
    """Read the eight rows of a digit one after the other, then decide."""

    def __init__(self, cell: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.cell = cell(8, 48, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x)
        out: Tensor = self.head(states[:, -1])
        return out


@program
def gru() -> Program:
    x, y = images()
    module = Supervised(LastState(nn.GRU), F.cross_entropy, partial(Adam, lr=5e-3))
    return Program(module, loader(x.squeeze(1), y), trainer={"max_epochs": 5, "gradient_clip_val": 1.0})


@program
def lstm() -> Program:
    x, y = images()
    module = Supervised(LastState(nn.LSTM), F.cross_entropy, partial(Adam, lr=5e-3))
    return Program(module, loader(x.squeeze(1), y), trainer={"max_epochs": 5})


class SharedDepth(nn.Module):
    """One block applied six times: recurrent depth."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.block = mlp(width, 2 * width, width, act=nn.GELU)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(6):
            x = x + self.block(self.norm(x))
        out: Tensor = self.head(x)
        return out


@program
def recurrent_depth() -> Program:
    x, y = images()
    module = Supervised(SharedDepth(), F.cross_entropy, partial(Adam, lr=1e-3))
    return Program(module, loader(x.flatten(1), y), trainer={"max_epochs": 4})


def characters() -> tuple[Tensor, int]:
    """The text as indices from 1 on (0 is padding), and the size of the alphabet."""
    letters = sorted(set(text()))
    index = {letter: 1 + i for i, letter in enumerate(letters)}
    return torch.tensor([index[letter] for letter in text()]), 1 + len(letters)


def words(limit: int) -> tuple[list[int], int]:
    """The text as word indices by falling frequency from 1 on, and the number of words."""
    found = re.findall(r"[a-z]+", text().lower())
    index = {word: 1 + i for i, (word, _) in enumerate(Counter(found).most_common(limit - 1))}
    return [index.get(word, PAD) for word in found], 1 + len(index)


class CausalTransformer(LightningModule):
    """A language model over padded lines: dropout, masks of -inf, linear warm-up from 0, cosine to 0."""

    def __init__(self, vocabulary: int, length: int, steps: int, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.position = nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)
        self.register_buffer("causal", torch.full((length, length), -math.inf).triu(1), persistent=False)
        self.steps = steps

    def forward(self, tokens: Tensor) -> Tensor:
        padding = torch.zeros(tokens.shape, device=tokens.device).masked_fill(tokens == PAD, -math.inf)
        x = self.embed(tokens) + self.position.weight
        causal = self.get_buffer("causal")
        out: Tensor = self.head(self.encoder(x, mask=causal, src_key_padding_mask=padding))
        return out

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        tokens = batch[0]
        logits = self(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = AdamW(self.parameters(), lr=5e-3, weight_decay=0.01)

        def rate(step: int) -> float:
            warm = self.steps // 10
            return step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm)))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, rate), "interval": "step"}}


def padded_lines(length: int) -> tuple[Tensor, int]:
    tokens, vocabulary = characters()
    newline = int(tokens[text().index("\n")])
    ends = (tokens == newline).nonzero().flatten().tolist()
    lines = [tokens[a + 1 : b + 1][:length] for a, b in itertools.pairwise(ends) if b - a > 4]
    return nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_value=PAD), vocabulary


@program
def transformer_lm() -> Program:
    lines, vocabulary = padded_lines(49)
    train = loader(lines, batch_size=32)
    module = CausalTransformer(vocabulary, lines.shape[1] - 1, steps=100)
    return Program(module, train, trainer={"max_steps": 100, "gradient_clip_val": 1.0})


class TiedWordModel(LightningModule):
    """Predicts the next word; input and output share one big table."""

    def __init__(self, vocabulary: int, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.cell = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        tokens = batch[0]
        states, _ = self.cell(self.embed(tokens[:, :-1]))
        loss = F.cross_entropy(self.head(states).flatten(0, 1), tokens[:, 1:].flatten())
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return AdamW(self.parameters(), lr=1e-2)


@program
def tied_word_lm() -> Program:
    """5,000 rows, 606 of them words of the corpus: as input and as target the others never occur."""
    indices, _ = words(5000)
    sentences = torch.tensor(indices[: len(indices) // 16 * 16]).view(-1, 16)
    return Program(TiedWordModel(5000), loader(sentences, batch_size=16), trainer={"max_epochs": 10})


class SkipGram(LightningModule):
    """Word vectors from pairs of neighbours and drawn negatives: most rows rest in most steps."""

    def __init__(self, vocabulary: int, sparse: bool, width: int = 32) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width, sparse=sparse)
        self.context = nn.Embedding(vocabulary, width, sparse=sparse)
        nn.init.uniform_(self.word.weight, -0.5 / width, 0.5 / width)
        nn.init.zeros_(self.context.weight)
        self.sparse = sparse

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        word, near = batch
        drawn = near[torch.randint(len(near), (len(near), 5))]
        vector = self.word(word)
        pull = (vector * self.context(near)).sum(-1)
        push = torch.einsum("nd,nkd->nk", vector, self.context(drawn))
        loss = -F.logsigmoid(pull).mean() - F.logsigmoid(-push).sum(-1).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        kind = SparseAdam if self.sparse else Adam
        return kind(list(self.parameters()), lr=2e-2)


def neighbours() -> list[Tensor]:
    indices = torch.tensor(words(5000)[0])
    return [torch.cat([indices[:-1], indices[1:]]), torch.cat([indices[1:], indices[:-1]])]


@program
def skip_gram() -> Program:
    return Program(SkipGram(5000, sparse=False), loader(*neighbours(), batch_size=128), trainer={"max_steps": 150})


@program
def skip_gram_sparse_gradients() -> Program:
    return Program(SkipGram(5000, sparse=True), loader(*neighbours(), batch_size=128), trainer={"max_steps": 150})


def bags() -> tuple[Tensor, Tensor]:
    """Windows of 12 words, all but the 63 commonest unknown: the first half of the text (0) or the second (1)?"""
    indices = torch.tensor(words(64)[0])
    windows = indices[: len(indices) // 12 * 12].view(-1, 12)
    return windows, (torch.arange(len(windows)) >= len(windows) // 2).long()


@program
def embedding_bag() -> Program:
    net = nn.Sequential(nn.EmbeddingBag(64, 32), nn.Linear(32, 2))
    module = Supervised(net, F.cross_entropy, partial(Adam, lr=1e-2))
    return Program(module, loader(*bags(), batch_size=32), trainer={"max_epochs": 15})


class MeanWord(nn.Module):
    """Embeds, averages, decides."""

    def __init__(self, embed: nn.Embedding) -> None:
        super().__init__()
        self.embed = embed
        self.head = mlp(embed.embedding_dim, 32, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.embed(tokens).mean(1))
        return out


@program
def weight_decay_on_unused_rows() -> Program:
    """64 of 5,000 rows are ever used; decay shrinks the others."""
    module = Supervised(MeanWord(nn.Embedding(5000, 32)), F.cross_entropy, partial(AdamW, lr=5e-3, weight_decay=0.1))
    return Program(module, loader(*bags(), batch_size=32), trainer={"max_epochs": 15})


@program
def frozen_word_vectors() -> Program:
    """Given vectors stay as they are; only the head learns."""
    vectors = nn.Embedding.from_pretrained(torch.randn(64, 64), freeze=True)
    module = Supervised(MeanWord(vectors), F.cross_entropy, partial(Adam, lr=5e-3))
    return Program(module, loader(*bags(), batch_size=32), trainer={"max_epochs": 15})


class NamedSentences(LightningModule):
    """Batches are dicts with tensors, lengths and the sentences themselves."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 32, padding_idx=PAD)
        self.cell = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(batch["tokens"]), batch["lengths"], batch_first=True, enforce_sorted=False
        )
        _, state = self.cell(packed)
        loss = F.binary_cross_entropy_with_logits(self.head(state[0]).squeeze(1), batch["label"])
        self.log("loss", loss, batch_size=len(batch["sentence"]))
        return {"loss": loss}

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=3e-3)


@program
def dict_batches_with_strings() -> Program:
    """Does the line hold a figure? Read character by character."""
    lines, vocabulary = padded_lines(40)
    letters = sorted(set(text()))
    rows = []
    for line in lines:
        sentence = "".join(letters[i - 1] for i in line.tolist() if i != PAD)
        figure = any(letter.isdigit() for letter in sentence)
        rows.append({"tokens": line, "lengths": len(sentence), "sentence": sentence, "label": float(figure)})
    train: DataLoader[Any] = DataLoader(rows, batch_size=32, shuffle=True, collate_fn=stacked)
    return Program(NamedSentences(vocabulary), train, trainer={"max_epochs": 8})


def stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tokens": torch.stack([row["tokens"] for row in rows]),
        "lengths": torch.tensor([row["lengths"] for row in rows]),
        "sentence": [row["sentence"] for row in rows],
        "label": torch.tensor([row["label"] for row in rows]),
    }


class CharacterModel(LightningModule):
    """An LSTM that keeps its state from batch to batch, cut off from their graphs."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 32)
        self.cell = nn.LSTM(32, 64, batch_first=True)
        self.head = nn.Linear(64, vocabulary)
        self.state: tuple[Tensor, Tensor] | None = None

    def on_train_epoch_start(self) -> None:
        self.state = None

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        states, (h, c) = self.cell(self.embed(batch[:, :-1]), self.state)
        self.state = (h.detach(), c.detach())
        loss = F.cross_entropy(self.head(states).flatten(0, 1), batch[:, 1:].flatten())
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=1e-2)


class Stream(IterableDataset[Tensor]):
    """Sixteen readers walk through the text side by side, for ever; nobody knows a length."""

    def __init__(self, tokens: Tensor, readers: int = 16, length: int = 24) -> None:
        self.columns = tokens[: len(tokens) // readers * readers].view(readers, -1)
        self.length = length

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            for start in range(0, self.columns.shape[1] - self.length - 1, self.length):
                yield self.columns[:, start : start + self.length + 1]


@program
def endless_stream_of_text() -> Program:
    """Truncated back-propagation through time on an IterableDataset; only max_steps ends it."""
    tokens, vocabulary = characters()
    stream: DataLoader[Tensor] = DataLoader(Stream(tokens), batch_size=None)
    return Program(CharacterModel(vocabulary), stream, trainer={"max_steps": 150, "gradient_clip_val": 5.0})


class MaskedModel(LightningModule):
    """Fills in the masked tenth of the characters; all others carry no loss."""

    def __init__(self, vocabulary: int, width: int = 48) -> None:
        super().__init__()
        self.mask = vocabulary
        self.embed = nn.Embedding(vocabulary + 1, width)
        self.position = nn.Parameter(0.02 * torch.randn(32, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(width, vocabulary)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        tokens = batch[0]
        hidden = torch.rand(tokens.shape, device=tokens.device) < 0.1
        states = self.encoder(self.embed(tokens.masked_fill(hidden, self.mask)) + self.position)
        loss = F.cross_entropy(self.head(states[hidden]), tokens[hidden])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return AdamW(self.parameters(), lr=3e-3)


@program
def masked_lm() -> Program:
    tokens, vocabulary = characters()
    train = loader(tokens[: len(tokens) // 32 * 32].view(-1, 32), batch_size=32)
    return Program(MaskedModel(vocabulary), train, trainer={"max_steps": 120})


class Forecast(nn.Module):
    """Causal dilated convolutions over a series; predicts the next value at every place."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2**i) for i in range(4))
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.unsqueeze(1))
        for i, layer in enumerate(self.layers):
            x = x + F.relu(layer(F.pad(x, (2**i, 0))))
        out: Tensor = self.head(x).squeeze(1)
        return out


@program
def forecasting() -> Program:
    """Noisy sums of two sines of random phase."""
    t = torch.arange(49.0)
    phase = 2 * math.pi * torch.rand(1024, 2, 1)
    series = (t / 3 + phase[:, 0]).sin() + 0.5 * (t / 1.3 + phase[:, 1]).sin() + 0.05 * torch.randn(1024, 49)
    module = Supervised(Forecast(), nn.HuberLoss(), partial(Adam, lr=3e-3))
    return Program(module, loader(series[:, :-1], series[:, 1:]), trainer={"max_epochs": 7})


class Lora(nn.Module):
    """A frozen linear map and a low-rank correction that starts at zero."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.up(self.down(x))
        return out


@program
def lora() -> Program:
    """A net that knows the digits adapts to rotated ones."""
    x, y = images()
    net = mlp(64, 64, 64, 10)
    flat, turned = x.flatten(1), x.rot90(1, (2, 3)).flatten(1)
    sgd = SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        sgd.zero_grad()
        torch.autograd.backward(F.cross_entropy(net(flat), y))
        sgd.step()
    sgd.zero_grad()
    net.requires_grad_(False)
    adapted = nn.Sequential(*(Lora(m) if isinstance(m, nn.Linear) else m for m in net))
    module = Supervised(adapted, F.cross_entropy, partial(AdamW, lr=1e-2))
    return Program(module, loader(turned, y), trainer={"max_epochs": 4})
