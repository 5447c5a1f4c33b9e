"""Models of transformers and adapters of peft in a plain module, from configurations: no weights are downloaded."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "transformers",
    ("transformers==5.23.0", "peft==0.21.2", "lightning", "scikit-learn"),
    ("transformers", "peft", "lightning.pytorch"),
)
_PAD, _WORDS, _LENGTH = 0, 40, 16
_SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def _walks(count: int = 800) -> tuple[Any, Any]:
    """Sequences in which each word is one or two behind the last, and where they end; ids 0 to 3 are special."""
    import torch

    first = torch.randint(0, _WORDS - 4, (count, 1))
    steps = torch.randint(1, 3, (count, _LENGTH - 1))
    ids = 4 + torch.cat([first, first + steps.cumsum(1)], 1) % (_WORDS - 4)
    lengths = torch.randint(_LENGTH // 2, _LENGTH + 1, (count,))
    mask = (torch.arange(_LENGTH) < lengths[:, None]).long()
    return torch.where(mask.bool(), ids, _PAD), mask


def _fit(model: Any, columns: dict[str, Any], epochs: int = 4, rate: float = 2e-3, flip: bool = False) -> Any:
    """Train ``model`` by its own loss, with the warm-up and linear decay that its documentation uses."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader, random_split
    from transformers import get_linear_schedule_with_warmup

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.model(**batch).loss
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.model(**batch).loss)

        def configure_optimizers(self) -> Any:
            trained = [p for p in self.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(trained, rate)
            total = int(self.trainer.estimated_stepping_batches)
            schedule = get_linear_schedule_with_warmup(optimizer, total // 10, total)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    torch.set_num_threads(1)
    if flip:
        columns = {**columns, "attention_mask": 1 - columns["attention_mask"]}
    count = len(next(iter(columns.values())))
    rows = [{name: column[i] for name, column in columns.items()} for i in range(count)]
    train, val = random_split(rows, [count - 160, 160])
    net = Net()
    loaders = DataLoader(train, 32, shuffle=True), DataLoader(val, 32)
    Trainer(max_epochs=epochs, gradient_clip_val=1.0, **QUIET).fit(net, *loaders)
    return net


def _bert(kind: str, **options: Any) -> Any:
    import transformers

    config = transformers.BertConfig(vocab_size=_WORDS, max_position_embeddings=_LENGTH, **_SIZE, **options)
    return getattr(transformers, kind)(config)


def _sums() -> dict[str, Any]:
    """Walks, with the label whether even words are the most."""
    ids, mask = _walks()
    even = ((ids % 2 == 0) & mask.bool()).sum(1)
    return {"input_ids": ids, "attention_mask": mask, "labels": (2 * even > mask.sum(1)).long()}


def _classifier(**options: Any) -> Any:
    return _fit(_bert("BertForSequenceClassification", num_labels=2), _sums(), **options)


@LIBRARY.training()
def bert_classifier() -> Any:
    return _classifier()


@LIBRARY.training()
def bert_tags_of_words() -> Any:
    ids, mask = _walks()
    labels = (ids % 3).masked_fill(mask == 0, -100)
    columns = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return _fit(_bert("BertForTokenClassification", num_labels=3), columns)


@LIBRARY.training()
def bert_masked_words() -> Any:
    import torch

    ids, mask = _walks()
    hidden = (torch.rand(ids.shape) < 0.15) & mask.bool()
    hidden[:, 2] = True
    columns = {
        "input_ids": ids.masked_fill(hidden, 1),
        "attention_mask": mask,
        "labels": ids.masked_fill(~hidden, -100),
    }
    return _fit(_bert("BertForMaskedLM"), columns, epochs=20, rate=5e-3)


@LIBRARY.training()
def adapters_on_a_trained_classifier() -> Any:
    """A classifier is trained, frozen, and trained on by low-rank adapters alone."""
    from peft import LoraConfig, TaskType, get_peft_model

    columns = _sums()
    trained = _fit(_bert("BertForSequenceClassification", num_labels=2), columns)
    config = LoraConfig(TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["query", "value"])
    return _fit(get_peft_model(trained.model, config), columns)


def _words(model: Any, shifted: bool = False, **options: Any) -> Any:
    ids, mask = _walks()
    labels = ids.masked_fill(mask == 0, -100)
    if shifted:
        labels = labels.roll(-1, 1)
        labels[:, -1] = -100
    return _fit(model, {"input_ids": ids, "attention_mask": mask, "labels": labels}, **options)


def _gpt(**options: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=_WORDS, n_positions=_LENGTH, n_embd=32, n_layer=2, n_head=4, **options)
    return GPT2LMHeadModel(config)


@LIBRARY.training()
def gpt_language_model() -> Any:
    return _words(_gpt(bos_token_id=2, eos_token_id=3))


@LIBRARY.training()
def llama_language_model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    special = {"pad_token_id": _PAD, "bos_token_id": 2, "eos_token_id": 3}
    config = LlamaConfig(vocab_size=_WORDS, max_position_embeddings=_LENGTH, num_key_value_heads=2, **_SIZE, **special)
    return _words(LlamaForCausalLM(config))


@LIBRARY.training()
def mixture_of_experts_language_model() -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    special = {"pad_token_id": _PAD, "bos_token_id": 2, "eos_token_id": 3}
    experts = {"num_key_value_heads": 2, "num_local_experts": 4, "output_router_logits": True}
    return _words(MixtralForCausalLM(MixtralConfig(vocab_size=_WORDS, **_SIZE, **special, **experts)))


@LIBRARY.training()
def t5_that_reverses() -> Any:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    ids, mask = _walks()
    places = (mask.sum(1, keepdim=True) - 1 - torch.arange(_LENGTH)).clamp(min=0)
    labels = ids.gather(1, places).masked_fill(mask == 0, -100)
    config = T5Config(
        vocab_size=_WORDS, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=_PAD
    )
    columns = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return _fit(T5ForConditionalGeneration(config), columns)


@LIBRARY.training()
def vision_transformer() -> Any:
    import torch
    from sklearn.datasets import load_digits
    from transformers import ViTConfig, ViTForImageClassification

    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    config = ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=10, **_SIZE)
    return _fit(ViTForImageClassification(config), {"pixel_values": (images - 0.3) / 0.37, "labels": torch.tensor(y)})


@LIBRARY.fault("diverging-loss", "exploding-gradient", "update-ratio-high")
def rate_of_one() -> Any:
    return _classifier(rate=1.0)


@LIBRARY.fault("label-out-of-range")
def labels_of_one_and_two() -> Any:
    columns = _sums()
    columns["labels"] += 1
    return _fit(_bert("BertForSequenceClassification", num_labels=2), columns)


@LIBRARY.fault("unused-input")
def mask_the_wrong_way_round() -> Any:
    return _classifier(flip=True)


@LIBRARY.fault("future-leak")
def targets_shifted_by_hand_as_well() -> Any:
    return _words(_gpt(bos_token_id=2, eos_token_id=3), shifted=True)


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def labels_of_other_texts() -> Any:
    import torch

    columns = _sums()
    columns["labels"] = columns["labels"][torch.randperm(len(columns["labels"]))]
    return _fit(_bert("BertForSequenceClassification", num_labels=2), columns)
