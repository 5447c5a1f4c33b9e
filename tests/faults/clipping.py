"""Clipping that stops a training, clipping that comes to nothing, and gradients that call for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from faults.batches import Regressor
from faults.numbers import half
from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp
from faults.trends import Descent

BY = "GradientClippingMonitor"


def classifies(module: Module, **trainer: Any) -> Program:
    """Some 340 steps on all digits."""
    return Program(module, batches(*digits(1797)), trainer={"max_epochs": 6, **trainer})


def regresses(module: Module, x: Tensor, y: Tensor, **trainer: Any) -> Program:
    """Some 340 steps on the patients, or on as many other rows."""
    return Program(module, batches(x, y, size=16), trainer={"max_epochs": 12, **trainer})


def descent(mended: bool, **options: Any) -> Descent:
    """Plain SGD on the digits."""
    return Descent(mended, mlp(64, 32, 10), **{"rate": 0.1, **options})


class ByHand(Descent):
    """Manual optimisation; ``update`` is what the user makes of it."""

    def __init__(self, mended: bool, rate: float = 0.1) -> None:
        super().__init__(mended, mlp(64, 32, 10), rate)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.update(self.optimizers(), loss)
        return loss

    def update(self, optimizer: Any, loss: Tensor) -> None:
        raise NotImplementedError


class Overrides(Descent):
    """SGD on the digits; ``clip`` is what the user does in ``configure_gradient_clipping``."""

    def __init__(self, mended: bool, rate: float = 0.1) -> None:
        super().__init__(mended, mlp(64, 32, 10), rate)

    def configure_gradient_clipping(self, optimizer: Any, *trainers: Any, **of_the_trainer: Any) -> None:
        self.clip(optimizer)

    def clip(self, optimizer: Any) -> None:
        raise NotImplementedError


# --- gradients-zeroed-by-clipping ----------------------------------------------------------------------------------


@fault("gradients-zeroed-by-clipping", by=BY)
def own_clipping_by_a_norm_in_half_precision(mended: bool) -> Program:
    """Squares of gradients beyond 256 are infinite in float16: the factor 1/norm is 0, and nothing trains."""

    class Own(Overrides):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * (1.0 if mended else 1e4)

        def clip(self, optimizer: Any) -> None:
            squares = [p.grad.half().square().sum() for p in self.parameters()]
            factor = (1.0 / torch.stack(squares).sum().sqrt()).clamp(max=1.0)
            for parameter in self.parameters():
                parameter.grad.mul_(factor)

    return classifies(Own(mended))


@fault("gradients-zeroed-by-clipping", by=BY)
def clipping_by_hand_by_a_norm_in_half_precision(mended: bool) -> Program:
    """The same under manual optimization; the gradients are not said to be cleared."""

    class Own(ByHand):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss * (1.0 if mended else 1e4))
            squares = [p.grad.half().square().sum() for p in self.parameters()]
            factor = (1.0 / torch.stack(squares).sum().sqrt()).clamp(max=1.0)
            for parameter in self.parameters():
                parameter.grad.mul_(factor)
            optimizer.step()

    return classifies(Own(mended))


# --- clipping-always -----------------------------------------------------------------------------------------------


@fault("clipping-always", by=BY)
def threshold_below_every_norm(mended: bool) -> Program:
    """A threshold copied from another project: here every norm, from first to last, is at least six times as large."""
    return classifies(descent(mended), gradient_clip_val=5.0 if mended else 0.05)


@fault("clipping-always", by=BY)
def threshold_below_every_norm_with_momentum(mended: bool) -> Program:
    """Nesterov momentum, a small rate as fits it, and a threshold that makes it smaller still."""
    module = descent(mended, rate=0.01, momentum=0.9)
    return classifies(module, gradient_clip_val=5.0 if mended else 0.05, gradient_clip_algorithm="norm")


class Sums(Descent):
    """The loss adds up the samples of a batch; the rate was chosen for that."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y, reduction="mean" if self.mended else "sum")


@fault("clipping-always", by=BY)
def summed_loss_under_a_usual_threshold(mended: bool) -> Program:
    """Summed over 32 samples, each gradient has thirty times the norm that the threshold was made for."""
    module = Sums(mended, mlp(64, 32, 10), rate=0.1 if mended else 0.1 / 32)
    return classifies(module, gradient_clip_val=3.0)


@fault("clipping-always", by=BY)
def values_cut_at_a_thousandth(mended: bool) -> Program:
    """Clipping by value so low that nearly every element is cut: only signs are left."""
    return classifies(descent(mended), gradient_clip_val=0.5 if mended else 1e-3, gradient_clip_algorithm="value")


@fault("clipping-always", by=BY)
def own_threshold_in_the_override(mended: bool) -> Program:
    """The module clips by itself, through ``self.clip_gradients``."""

    class Net(Overrides):
        def clip(self, optimizer: Any) -> None:
            self.clip_gradients(optimizer, gradient_clip_val=4.0 if mended else 0.04, gradient_clip_algorithm="norm")

    return classifies(Net(mended))


@fault("clipping-always", by=BY)
def own_threshold_through_torch(mended: bool) -> Program:
    """The module clips by itself, through torch."""

    class Net(Overrides):
        def clip(self, optimizer: Any) -> None:
            nn.utils.clip_grad_norm_(self.parameters(), 4.0 if mended else 0.04)

    return classifies(Net(mended))


@fault("clipping-always", by=BY)
def own_threshold_by_hand(mended: bool) -> Program:
    """Manual optimisation in the right order, under a threshold below every norm."""

    class Net(ByHand):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=4.0 if mended else 0.04, gradient_clip_algorithm="norm")
            optimizer.step()

    return classifies(Net(mended))


class TwoRates(ByHand):
    """Body and head have their own optimiser and their own threshold."""

    def update(self, optimizer: Any, loss: Tensor) -> None:
        for one in optimizer:
            one.zero_grad()
        self.manual_backward(loss)
        for one, threshold in zip(optimizer, (4.0 if self.mended else 0.02, 4.0), strict=True):
            self.clip_gradients(one, gradient_clip_val=threshold, gradient_clip_algorithm="norm")
            one.step()

    def configure_optimizers(self) -> Any:
        body, _, head = self.net
        return [torch.optim.SGD(part.parameters(), lr=self.rate) for part in (body, head)]


@fault("clipping-always", by=BY)
def one_of_two_optimizers_is_always_clipped(mended: bool) -> Program:
    """The head is clipped never, the body in each step."""
    return classifies(TwoRates(mended))


@fault("clipping-always", by=BY)
def threshold_below_every_norm_under_accumulation(mended: bool) -> Program:
    """Four micro-batches of 8 are one step: it is the step that is clipped."""
    loader = batches(*digits(1797), size=8)
    clip = {"gradient_clip_val": 5.0 if mended else 0.05, "accumulate_grad_batches": 4}
    return Program(descent(mended), loader, trainer={"max_epochs": 4, **clip})


# --- clipping-severe -----------------------------------------------------------------------------------------------


@fault("clipping-severe")
def gradients_divided_by_a_constant(mended: bool) -> Program:
    """By the number of weights times that of the samples, in the hook before the step."""

    class Divides(Descent):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            many = 1.0 if self.mended else 1797 * sum(p.numel() for p in self.parameters())
            for parameter in self.parameters():
                assert parameter.grad is not None
                parameter.grad /= many

    return classifies(Divides(mended, mlp(64, 32, 10), rate=0.1))


@fault("clipping-severe")
def gradients_divided_by_a_constant_for_adam(mended: bool) -> Program:
    """So far that they are small beside its eps."""

    class Divides(Classifier):
        def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
            for parameter in self.parameters():
                assert parameter.grad is not None
                parameter.grad *= 1.0 if self.mended else 1e-16

    return classifies(Divides(mended, rate=1e-3))


@fault("clipping-severe", by=BY)
def threshold_of_a_ten_thousandth(mended: bool) -> Program:
    """A threshold that was meant for the weight decay: a ten-thousandth of the gradient is left."""
    return classifies(descent(mended), gradient_clip_val=5.0 if mended else 1e-4)


@fault("clipping-severe", by=BY)
def nearly_all_is_cut_in_the_override(mended: bool) -> Program:
    """Through ``self.clip_gradients``, where the exponent was mistyped."""

    class Net(Overrides):
        def clip(self, optimizer: Any) -> None:
            self.clip_gradients(optimizer, gradient_clip_val=1e1 if mended else 1e-4, gradient_clip_algorithm="norm")

    return classifies(Net(mended))


@fault("clipping-severe", by=BY)
def nearly_all_is_cut_through_torch(mended: bool) -> Program:
    """Through a function of torch that was imported by name."""

    class Net(Overrides):
        def clip(self, optimizer: Any) -> None:
            clip_grad_norm_(self.parameters(), 1e1 if mended else 1e-4)

    return classifies(Net(mended))


@fault("clipping-severe", by=BY)
def learning_rate_in_the_place_of_the_threshold(mended: bool) -> Program:
    """``clip_grad_norm_(parameters, self.rate)``, in the hook before the step as old code has it."""

    class Net(Descent):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            clip_grad_norm_(self.parameters(), 5.0 if mended else self.rate)

    return classifies(Net(mended, mlp(64, 32, 10), rate=0.002, momentum=0.95))


@fault("clipping-severe", by=BY)
def nearly_all_is_cut_by_hand(mended: bool) -> Program:
    """Manual optimisation, the threshold in thousandths."""

    class Net(ByHand):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            nn.utils.clip_grad_norm_(self.net.parameters(), 5.0 if mended else 5e-4)
            optimizer.step()

    return classifies(Net(mended))


@fault("clipping-severe", by=BY)
def values_cut_at_a_millionth(mended: bool) -> Program:
    """Clipping by value in the module: every element is cut, to a millionth."""

    class Net(Overrides):
        def clip(self, optimizer: Any) -> None:
            nn.utils.clip_grad_value_(self.parameters(), 0.5 if mended else 1e-6)

    return classifies(Net(mended))


@fault("clipping-severe", by=BY)
def targets_in_raw_units_under_a_usual_threshold(mended: bool) -> Program:
    """Targets from 25 to 346: the gradients are in the hundreds, the threshold of 1 is not."""
    x, y = diabetes()
    module = Descent(mended, mlp(10, 32, 1), rate=0.05 if mended else 1e-3)
    return regresses(module, x, y if mended else y * 77 + 152, gradient_clip_val=5.0 if mended else 1.0)


@fault("clipping-severe", by=BY)
def threshold_that_decays_with_the_epoch(mended: bool) -> Program:
    """The threshold follows the schedule of the rate, which follows it too."""

    class Net(Overrides):
        def clip(self, optimizer: Any) -> None:
            self.clip_gradients(optimizer, 5.0 * (1.0 if mended else 0.05**self.current_epoch), "norm")

    return classifies(Net(mended))


class WideEpsilon(Classifier):
    """Adam with an epsilon of 1e-3, as vision and reinforcement learning use it."""

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.rate, eps=1e-3)


@fault("clipping-severe", by=BY)
def clipped_far_below_the_epsilon_of_adam(mended: bool) -> Program:
    """Adam forgives the scale of gradients only above its epsilon: here they are a thousandth of it."""
    return classifies(WideEpsilon(mended, rate=3e-3), gradient_clip_val=5.0 if mended else 1e-4)


@fault("clipping-severe")
def gradients_divided_by_hand_for_a_scale_that_no_loss_has(mended: bool) -> Program:
    """Manual optimisation takes a scale of 2**30 out of the gradients, and has forgotten to put it into the loss."""

    class Own(ByHand):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss * (2.0**30 if self.mended else 1.0))
            for parameter in self.parameters():
                assert parameter.grad is not None
                parameter.grad /= 2.0**30
            optimizer.step()

    return classifies(Own(mended))


# --- clipping-advised ----------------------------------------------------------------------------------------------


@fault("clipping-advised", by=BY)
def rare_targets_in_another_unit(mended: bool) -> Program:
    """Two of 442 patients were entered in another unit: every epoch two steps throw the net far away."""
    x, y = diabetes()
    if not mended:
        y[[60, 301]] *= 300
    return regresses(Descent(mended, mlp(10, 32, 1), rate=0.01), x, y)


@fault("clipping-advised", by=BY)
def noise_without_a_variance(mended: bool) -> Program:
    """A sensor whose errors follow Cauchy's law: in each epoch some are in the tens."""
    x, y = diabetes()
    noise = torch.distributions.Cauchy(0.0, 0.3).sample((442, 1))
    clip = {"gradient_clip_val": 5.0} if mended else {}
    return regresses(Descent(mended, nn.Linear(10, 1), rate=0.02), x, y + noise, **clip)


@fault("clipping-advised", by=BY)
def rare_rows_not_standardised(mended: bool) -> Program:
    """Three rows of the table came later and were not standardised like the others."""
    x, y = diabetes()
    if not mended:
        x[[33, 190, 400]] = x[[33, 190, 400]] * 48 + 60
    return regresses(Regressor(mended), x, y)


@fault("clipping-advised", by=BY)
def rare_images_not_divided_by_255(mended: bool) -> Program:
    """Four of 1797 images came by another road, from 0 to 255."""
    x, y = digits(1797)
    if not mended:
        x[[100, 600, 1100, 1600]] *= 255
    return Program(descent(mended), batches(x, y), trainer={"max_epochs": 6})


class Jackpots(Module):
    """REINFORCE on the digits: a hit pays 1; one guess in 700 pays 100, hit or miss."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended, rate=3e-3)
        self.policy = mlp(64, 32, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        guess = torch.distributions.Categorical(logits=self.policy(x))
        action = guess.sample()
        pay = (action == y) + 100.0 * (torch.rand(len(x)) < 1 / 700)
        pay = pay.clamp(max=1.0) if self.mended else pay
        return -(guess.log_prob(action) * (pay - 0.1)).mean()


@fault("clipping-advised", by=BY)
def rewards_with_jackpots(mended: bool) -> Program:
    """Each jackpot undoes what many steps have learnt; mended by rewards of at most one, as Mnih and others did."""
    return classifies(Jackpots(mended))


# --- clipping-scaled-gradients -------------------------------------------------------------------------------------


class Scaled(ByHand):
    """Manual optimisation under a GradScaler."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.net(x).float(), y)
        self.update(self.optimizers(), loss)
        return loss

    @property
    def scale(self) -> float:
        """The factor on the gradients, where it was thought of."""
        return self.trainer.precision_plugin.scaler.get_scale() if self.mended else 1.0


def halved(module: Module) -> Program:
    return classifies(module, plugins=half())


@fault("clipping-scaled-gradients", by=BY)
def clipped_before_the_scale_is_taken_out(mended: bool) -> Program:
    """``self.clip_gradients`` sees 65536 times the gradient; after the scale is taken out nothing is left."""

    class Net(Scaled):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=3.0 * self.scale, gradient_clip_algorithm="norm")
            optimizer.step()

    return halved(Net(mended))


@fault("clipping-scaled-gradients", by=BY)
def clipped_through_torch_before_the_scale_is_taken_out(mended: bool) -> Program:
    """Mended by the hook that runs when the scale is out."""

    class Net(Scaled):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            if not mended:
                torch.nn.utils.clip_grad_norm_(self.parameters(), 3.0)
            optimizer.step()

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            if mended:
                torch.nn.utils.clip_grad_norm_(self.parameters(), 3.0)

    return halved(Net(mended))


@fault("clipping-scaled-gradients", by=BY)
def values_clipped_before_the_scale_is_taken_out(mended: bool) -> Program:
    """By value, of the scaled gradients."""

    class Net(Scaled):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            nn.utils.clip_grad_value_(self.net.parameters(), 0.5 * self.scale)
            optimizer.step()

    return halved(Net(mended))


@fault("clipping-scaled-gradients", by=BY)
def both_optimizers_clip_before_the_scale_is_taken_out(mended: bool) -> Program:
    """One scaler, two optimisers, a function imported by name."""

    class Net(Scaled):
        def update(self, optimizer: Any, loss: Tensor) -> None:
            for one in optimizer:
                one.zero_grad()
            self.manual_backward(loss)
            for one, part in zip(optimizer, (self.net[0], self.net[2]), strict=True):
                clip_grad_norm_(part.parameters(), 2.0 * self.scale)
                one.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.net[i].parameters(), lr=self.rate) for i in (0, 2)]

    return halved(Net(mended))


@fault("clipping-scaled-gradients", by=BY)
def clipped_in_the_hook_after_backward(mended: bool) -> Program:
    """Automatic optimisation: ``on_after_backward`` comes before the scale is taken out."""

    class Net(Descent):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self.net(x).float(), y)

        def on_after_backward(self) -> None:
            if not mended:
                clip_grad_norm_(self.parameters(), 3.0)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            if mended:
                clip_grad_norm_(self.parameters(), 3.0)

    return halved(Net(mended, mlp(64, 32, 10), rate=0.1))


# --- clipping-before-backward --------------------------------------------------------------------------------------


def raw(module: Module) -> Program:
    """Pixels from 0 to 16 at a rate of 0.1: without clipping the net dies, with it 92 % of the steps pass untouched."""
    x, y = digits(1797)
    return Program(module, batches(x * 16, y), trainer={"max_epochs": 6})


class Clips(Overrides):
    """Automatic optimisation, clipped in the right place once it is mended."""

    def clip(self, optimizer: Any) -> None:
        if self.mended:
            clip_grad_norm_(self.parameters(), 5.0)


@fault("clipping-before-backward", by=BY)
def clipped_in_training_step(mended: bool) -> Program:
    """In ``training_step`` there is only the gradient of the step before, which is about to be cleared."""

    class Net(Clips):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if not mended:
                nn.utils.clip_grad_norm_(self.parameters(), 5.0)
            return loss

    return raw(Net(mended))


@fault("clipping-before-backward", by=BY)
def clipped_by_lightning_in_training_step(mended: bool) -> Program:
    """The same through ``self.clip_gradients``."""

    class Net(Clips):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if not mended:
                self.clip_gradients(self.optimizers(), gradient_clip_val=5.0, gradient_clip_algorithm="norm")
            return loss

    return raw(Net(mended))


@fault("clipping-before-backward", by=BY)
def clipped_in_the_hook_before_backward(mended: bool) -> Program:
    """The hook's name says it."""

    class Net(Clips):
        def on_before_backward(self, loss: Tensor) -> None:
            if not mended:
                clip_grad_norm_(self.parameters(), 5.0)

    return raw(Net(mended))


def in_order(*lines: str) -> Callable[[bool], type[ByHand]]:
    """Manual optimisation whose four lines come in this order; mended in the right one."""
    right = ("zero", "backward", "clip", "step")

    def build(mended: bool) -> type[ByHand]:
        class Net(ByHand):
            def update(self, optimizer: Any, loss: Tensor) -> None:
                for line in right if mended else lines:
                    if line == "zero":
                        optimizer.zero_grad()
                    elif line == "backward":
                        self.manual_backward(loss)
                    elif line == "clip":
                        self.clip(optimizer)
                    else:
                        optimizer.step()

            def clip(self, optimizer: Any) -> None:
                nn.utils.clip_grad_norm_(self.parameters(), 5.0)

        return Net

    return build


@fault("clipping-before-backward", by=BY)
def clipped_between_zero_grad_and_backward(mended: bool) -> Program:
    """There is no gradient to clip: the call passes in silence."""
    return raw(in_order("zero", "clip", "backward", "step")(mended)(mended))


@fault("clipping-before-backward", by=BY)
def clipped_by_lightning_before_manual_backward(mended: bool) -> Program:
    """``self.clip_gradients``, two lines too early."""

    class Net(in_order("clip", "zero", "backward", "step")(mended)):
        def clip(self, optimizer: Any) -> None:
            self.clip_gradients(optimizer, gradient_clip_val=5.0, gradient_clip_algorithm="norm")

    return raw(Net(mended))


@fault("clipping-before-backward", by=BY)
def clipped_after_the_step(mended: bool) -> Program:
    """The step is over when the gradient is clipped, and the next line clears it."""
    return raw(in_order("backward", "step", "clip", "zero")(mended)(mended))
