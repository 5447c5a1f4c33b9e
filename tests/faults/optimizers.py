"""The optimiser and its parameters: what it is given, when gradients are cleared, and whether weights move."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.registry import Classifier, Program, fault, mlp
from faults.wiring import TwoParts, program


class Manual(Classifier):
    """Manual optimisation; ``update`` is what the user makes of it."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.update(self.optimizers(), loss)
        return loss

    def update(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


# --- stale-gradients -----------------------------------------------------------------------------------------------


class KeepsGradients(Classifier):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        pass


@fault("stale-gradients")
def zero_grad_overridden_by_nothing(mended: bool) -> Program:
    """The hook was emptied for an experiment with accumulation."""
    return program((Classifier if mended else KeepsGradients)(mended))


@fault("stale-gradients")
def zero_grad_forgotten(mended: bool) -> Program:
    """Manual optimisation without ``zero_grad``."""

    class Net(Manual):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            if mended:
                optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    return program(Net(mended))


# --- gradients-cleared ---------------------------------------------------------------------------------------------


class ClearsAfterBackward(Classifier):
    def on_after_backward(self) -> None:
        self.zero_grad()


@fault("gradients-cleared")
def zero_grad_after_backward(mended: bool) -> Program:
    """A hook that tidies up too early."""
    return program((Classifier if mended else ClearsAfterBackward)(mended))


@fault("gradients-cleared")
def zero_grad_before_the_step(mended: bool) -> Program:
    """Manual optimisation with two lines in the wrong order."""

    class Net(Manual):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            if mended:
                optimizer.zero_grad()
            self.manual_backward(loss)
            if not mended:
                optimizer.zero_grad()
            optimizer.step()

    return program(Net(mended))


class ClearsBeforeStep(Classifier):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        optimizer.zero_grad()


@fault("gradients-cleared")
def zero_grad_in_the_hook_before_the_step(mended: bool) -> Program:
    """A hook that runs when the gradients have been looked at already."""
    return program((Classifier if mended else ClearsBeforeStep)(mended))


class ZerosForClipping(Classifier):
    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        for parameter in self.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()


@fault("gradients-cleared")
def gradients_zeroed_in_the_clipping_hook(mended: bool) -> Program:
    """In place, so that they are still there."""
    return program((Classifier if mended else ZerosForClipping)(mended))


class ClearsEachBatch(Classifier):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.zero_grad()


@fault("gradients-cleared")
def zero_grad_in_every_micro_batch(mended: bool) -> Program:
    """Accumulation over four batches, of which only the last is left."""
    module = (Classifier if mended else ClearsEachBatch)(mended, rate=3e-3)
    return program(module, accumulate_grad_batches=4, max_epochs=12)


# --- parameter-not-in-optimizer ------------------------------------------------------------------------------------


class OwnOptimizer(TwoParts):
    """The optimiser is built in the constructor; the head is then made for the number of classes."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        if mended:
            self.head = nn.Linear(32, 10)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=self.rate)
        if not mended:
            self.head = nn.Linear(32, 10)

    def configure_optimizers(self) -> Any:
        return self.optimizer


@fault("parameter-not-in-optimizer", "head")
def head_replaced_after_the_optimizer(mended: bool) -> Program:
    """The optimiser holds the parameters of the head that is gone."""
    return program(OwnOptimizer(mended))


@fault("parameter-not-in-optimizer", "backbone")
def optimizer_of_the_head_only(mended: bool) -> Program:
    """The backbone is trainable and in no group."""

    class Net(TwoParts):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam((self if mended else self.head).parameters(), lr=1e-3)

    return program(Net(mended))


class Unfreeze(pl.Callback):
    """Fine-tune the backbone from the second epoch on."""

    def __init__(self, adds: bool) -> None:
        self.adds = adds

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            pl_module.backbone.requires_grad_(True)
            if self.adds:
                trainer.optimizers[0].add_param_group({"params": list(pl_module.backbone.parameters())})


@fault("parameter-not-in-optimizer", "backbone")
def unfrozen_and_not_added(mended: bool) -> Program:
    """A backbone that is unfrozen later, while the optimiser was given what was trainable at first."""

    class Net(TwoParts):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=1e-3)

    module = Net(mended)
    module.backbone.requires_grad_(False)
    run = program(module)
    run.callbacks = [Unfreeze(mended)]
    return run


# --- unregistered-parameter ----------------------------------------------------------------------------------------


@fault("unregistered-parameter", "blocks")
def layers_in_a_list(mended: bool) -> Program:
    """A Python list where ``nn.ModuleList`` is meant."""

    class Net(TwoParts):
        def __init__(self) -> None:
            super().__init__(mended)
            blocks = [nn.Linear(32, 32) for _ in range(3)]
            self.blocks = nn.ModuleList(blocks) if mended else blocks

        def link(self, h: Tensor) -> Tensor:
            for block in self.blocks:
                h = F.relu(block(h))
            return h

    return program(Net())


@fault("unregistered-parameter", "heads")
def layers_in_a_dict(mended: bool) -> Program:
    """A dict of heads where ``nn.ModuleDict`` is meant."""

    class Net(TwoParts):
        def __init__(self) -> None:
            super().__init__(mended)
            heads = {"digit": nn.Linear(32, 10), "parity": nn.Linear(32, 2)}
            self.heads = nn.ModuleDict(heads) if mended else heads
            del self.head

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            h = self.backbone(x)
            return F.cross_entropy(self.heads["digit"](h), y) + F.cross_entropy(self.heads["parity"](h), y % 2)

    return program(Net())


class Adapter(nn.Module):
    """Fits its layer to whatever width comes in; built once, or in each forward."""

    def __init__(self, lazily: bool) -> None:
        super().__init__()
        self.linear = None if lazily else nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        linear = nn.Linear(x.shape[1], 32) if self.linear is None else self.linear
        return F.relu(linear(x))


@fault("unregistered-parameter", "backbone.2", source="linear = nn.Linear(x.shape[1], 32)")
def layer_built_in_forward(mended: bool) -> Program:
    """A new layer in each call, with new weights that nobody trains."""
    module = TwoParts(mended)
    module.backbone.append(Adapter(lazily=not mended))
    return program(module)


@fault("unregistered-parameter", "temperature")
def plain_tensor_that_requires_grad(mended: bool) -> Program:
    """A leaf tensor where ``nn.Parameter`` is meant."""

    class Net(TwoParts):
        def __init__(self) -> None:
            super().__init__(mended)
            start = torch.ones(32)
            self.temperature = nn.Parameter(start) if mended else start.requires_grad_()

        def link(self, h: Tensor) -> Tensor:
            return h * self.temperature

    return program(Net())


@fault("unregistered-parameter", "prompts")
def parameters_in_a_list(mended: bool) -> Program:
    """A Python list where ``nn.ParameterList`` is meant."""

    class Net(TwoParts):
        def __init__(self) -> None:
            super().__init__(mended)
            prompts = [nn.Parameter(torch.randn(32) * 0.1) for _ in range(2)]
            self.prompts = nn.ParameterList(prompts) if mended else prompts

        def link(self, h: Tensor) -> Tensor:
            return h + self.prompts[0] + self.prompts[1]

    return program(Net())


# --- parameter-not-updated -----------------------------------------------------------------------------------------


@fault("parameter-not-updated", "backbone.0.weight")
def weights_restored_each_step(mended: bool) -> Program:
    """Pretrained weights are copied back after each batch."""

    class Net(TwoParts):
        def __init__(self) -> None:
            super().__init__(mended)
            self.register_buffer("pretrained", self.backbone[0].weight.detach().clone())

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if not mended:
                self.backbone[0].weight.data.copy_(self.pretrained)

    return program(Net())


@fault("parameter-not-updated")
def an_optimizer_that_remembers_and_never_moves(mended: bool) -> Program:
    """It gathers gradients, as some do before they begin, but the update is missing."""

    class Remembers(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            if mended:
                return super().step(closure)
            with torch.enable_grad():
                loss = closure()
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["sum"] = self.state[parameter].get("sum", 0) + parameter.grad
            return loss

    class Net(Classifier):
        def configure_optimizers(self) -> Any:
            return Remembers(self.parameters(), lr=0.1)

    return program(Net(mended))


@fault("parameter-not-updated")
def optimizer_step_that_only_runs_the_closure(mended: bool) -> Program:
    """``optimizer_step`` was overridden and forgets the step."""

    class Net(Classifier):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if mended:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    return program(Net(mended))


@fault("parameter-not-updated")
def manual_without_a_step(mended: bool) -> Program:
    """Manual optimisation that never calls ``step``."""

    class Net(Manual):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            if mended:
                optimizer.step()

    return program(Net(mended))


@fault("parameter-not-updated", "backbone.2.weight")
def updates_below_the_precision_of_bfloat16(mended: bool) -> Program:
    """Next to 1.0, bfloat16 is spaced by 1/256: an update of 0.001 is rounded away."""
    module = TwoParts(mended)
    module.backbone.append(nn.LayerNorm(32))
    return program(module, precision="bf16-mixed" if mended else "bf16-true")


@fault("parameter-not-updated", "backbone", "backbone.0.weight", "")
def most_updates_below_the_precision_of_bfloat16(mended: bool) -> Program:
    """Weights of size one, 256 steps of 0.001: only the few that are near zero move."""

    class Net(TwoParts):
        def link(self, h: Tensor) -> Tensor:
            return h / 8

    module = Net(mended)
    nn.init.normal_(module.backbone[0].weight)
    return program(module, precision="32-true" if mended else "bf16-true", max_epochs=16)


# --- update-ratio-high, update-ratio-low ---------------------------------------------------------------------------


@fault("update-ratio-high")
def adam_with_a_rate_of_a_half(mended: bool) -> Program:
    """Each step moves each weight by more than its size."""
    return program(Classifier(mended, mlp(64, 64, 10), rate=1e-3 if mended else 0.5))


@fault("update-ratio-high")
def adam_with_a_rate_meant_for_sgd(mended: bool) -> Program:
    """Adam at 0.3, on a convolutional net with batch norm that hides it."""
    features = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()]
    return program(Classifier(mended, nn.Sequential(*features, nn.Linear(576, 10)), rate=1e-3 if mended else 0.3))


@fault("update-ratio-high", at_step=1, raises=None)
def a_rate_whose_first_step_overflows(mended: bool) -> Program:
    """A network of counts: its rates are exponentials, which the second step cannot hold."""

    class Counts(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.poisson_nll_loss(self(x)[:, 0], y.float(), log_input=True)

    return program(Counts(mended, rate=1e-3 if mended else 20.0))


@fault("update-ratio-low")
def sgd_with_a_tiny_rate(mended: bool) -> Program:
    """A slip of the exponent: nothing moves in a life time."""

    class Net(Classifier):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1 if mended else 1e-8)

    return program(Net(mended))


@fault("update-ratio-low")
def epsilon_in_place_of_the_rate(mended: bool) -> Program:
    """``Adam(params, 1e-8)``: the second argument is the rate."""
    return program(Classifier(mended, rate=1e-3 if mended else 1e-8))


@fault("update-ratio-low")
def rate_below_what_floats_resolve(mended: bool) -> Program:
    """``lr=1e-12``, of a sweep over exponents: each step is rounded away."""
    return program(Classifier(mended, rate=1e-3 if mended else 1e-12))


@fault("update-ratio-low")
def rate_below_what_floats_resolve_under_a_loss_that_falls_by_chance(mended: bool) -> Program:
    """The loss of a policy: what an action is worth is drawn, and so is the lowest of twenty."""

    class Policy(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            actions = torch.distributions.Categorical(logits=self(x))
            action = actions.sample()
            return -(actions.log_prob(action) * ((action == y).float() - 0.1)).mean()

    return program(Policy(mended, rate=1e-3 if mended else 1e-12))


@fault("update-ratio-low", "net.0", "net")
def body_with_a_rate_of_nearly_nothing(mended: bool) -> Program:
    """The head learns, the layers before it stay where they are; mended, they are fine-tuned."""

    class Net(Classifier):
        def configure_optimizers(self) -> Any:
            body, head = list(self.net[:-1].parameters()), list(self.net[-1].parameters())
            return torch.optim.AdamW([{"params": body, "lr": 1e-6 if mended else 1e-9}, {"params": head, "lr": 1e-2}])

    return program(Net(mended))


# --- optimizer-nonfinite -------------------------------------------------------------------------------------------


class Chosen(Classifier):
    """A classifier with the optimizer it is given; the first pixel of a digit is always 0, and so is its gradient."""

    def __init__(self, mended: bool, make: Any) -> None:
        super().__init__(mended)
        self.make = make

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


@fault("optimizer-nonfinite", "", "net.0", "net", raises=True)
def adam_in_float16(mended: bool) -> Program:
    """eps=1e-8 is 0 in float16, and so are the squares of small gradients."""
    return program(
        Chosen(mended, partial(torch.optim.Adam, lr=1e-4, eps=1e-4 if mended else 1e-8)), precision="16-true"
    )


@fault("optimizer-nonfinite", "", "net", raises=True)
def rmsprop_without_eps(mended: bool) -> Program:
    """0/0 where a pixel is always black."""
    return program(Chosen(mended, partial(torch.optim.RMSprop, lr=1e-3, eps=1e-8 if mended else 0.0)))


class ColumnWise(torch.optim.Optimizer):
    """Gradients of unit length for each input of a layer; ``guard`` keeps inputs that are always 0 from 0/0."""

    def __init__(self, params: Any, guard: float) -> None:
        super().__init__(params, {"lr": 1e-2, "guard": guard})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad / (p.grad.norm(dim=0, keepdim=True) + group["guard"])
        return loss


@fault("optimizer-nonfinite", raises=True)
def a_column_of_no_length(mended: bool) -> Program:
    """An optimizer of the user's own divides by a norm that is 0."""
    return program(Chosen(mended, partial(ColumnWise, guard=1e-8 if mended else 0.0)))


class Whitened(torch.optim.Optimizer):
    """RMSprop by hand, for weights that sit at 0, too; ``guard`` keeps entries without a gradient from 0/0."""

    def __init__(self, params: Any, guard: float) -> None:
        super().__init__(params, {"lr": 1e-3, "guard": guard})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                energy = self.state[p].setdefault("energy", torch.zeros_like(p))
                energy.mul_(0.9).addcmul_(p.grad, p.grad, value=0.1)
                p -= group["lr"] * p.grad / (energy.sqrt() + group["guard"])
        return loss


@fault("optimizer-nonfinite", "", "net", "net.0", raises=True)
def rmsprop_by_hand_without_eps(mended: bool) -> Program:
    return program(Chosen(mended, partial(Whitened, guard=1e-8 if mended else 0.0)))


class UnitLength(torch.optim.Optimizer):
    """Each gradient is brought to the length of its weights; one that is 0 has no length."""

    def __init__(self, params: Any, guard: float) -> None:
        super().__init__(params, {"lr": 1e-2, "guard": guard})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad * (p.norm() / (p.grad.norm() + group["guard"]))
        return loss


class Gated(Chosen):
    """A second branch, behind the square of a gate that begins at 0."""

    def __init__(self, mended: bool, make: Any) -> None:
        super().__init__(mended, make)
        self.gate = nn.Parameter(torch.zeros(10))

    def forward(self, x: Any) -> Any:
        return super().forward(x) + self.gate**2


@fault("optimizer-nonfinite", "gate", raises=True)
def a_gradient_of_no_length(mended: bool) -> Program:
    return program(Gated(mended, partial(UnitLength, guard=1e-8 if mended else 0.0)))


@fault("optimizer-nonfinite", "", "net")
def the_last_step_breaks_the_weights(mended: bool) -> Program:
    """No look comes after it but the one at the end of the fit."""
    return program(Chosen(mended, partial(torch.optim.Adam, eps=1e-8 if mended else 0.0)), max_epochs=-1, max_steps=1)
