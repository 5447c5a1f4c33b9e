"""Watch the operations of one training step, whatever calls them, and change nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.compat import OpOverload, TorchDispatchMode, current_autograd_node
from lightning_debugkit.core.sharding import unwrapped_name
from lightning_debugkit.monitors.activations.dataflow import (
    MOVES,
    Dataflow,
    Known,
    Register,
    Weight,
    carried,
    merged_dataflow,
)
from lightning_debugkit.monitors.activations.operation_call import OperationCall, tensors_in
from lightning_debugkit.monitors.activations.operations import (
    COMPARING,
    GATING,
    LOOKUPS,
    PRODUCTS,
    RECURRENT,
    convolves,
    factors,
    is_of_the_network,
    normalizes,
)
from lightning_debugkit.monitors.activations.recording import ActivationRecording
from lightning_debugkit.monitors.activations.sites import Output, Stage
from lightning_debugkit.stats.tensor_norms import unobserved


class OperationMode(TorchDispatchMode):
    """Follow what flows from the batch to the loss, and gather numbers about it on its own device.

    It lies below autograd and above the kernels: it sees each operation whatever calls it, installs nothing on the
    model, and hands each on as it is. What runs without gradients, within a backward pass or within compiled code is
    passed over.
    """

    supports_higher_order_operators = True

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        # Else code compiled by torch.compile would run eagerly in this step, with other roundings.
        return True

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.gathered = ActivationRecording({id(part): unwrapped_name(name) for name, part in module.named_modules()})
        self.error: Exception | None = None
        self.left_out = ""  # why the mode was not entered
        self._known = Register()
        self._owners: dict[int, list[str]] = {}
        for wrapped, parameter in module.named_parameters(remove_duplicate=False):
            name = unwrapped_name(wrapped)
            path = name.partition("parametrizations.")[0] if "parametrizations." in name else name.rpartition(".")[0]
            self._owners.setdefault(id(parameter), []).append(path.rstrip("."))
        self._sharing: dict[str, list[str]] = {}  # by layer: all that have a weight of it
        for paths in self._owners.values():
            for path in paths if len(paths) > 1 else ():
                self._sharing.setdefault(path, paths)
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        call = self._before(func, types, args, kwargs)
        result = func(*args, **kwargs)
        if call is not None:
            self._after(call, result, sys._getframe(1))
        return result

    def _before(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OperationCall | None:
        if self.error is not None or not isinstance(func, OpOverload) or not torch.is_grad_enabled():
            return None
        if current_autograd_node() is not None:
            return None
        with unobserved():
            return self._asked(func, types, args, kwargs)

    def _asked(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OperationCall | None:
        self.calls += 1
        try:
            foreign = [kind.__name__ for kind in types if kind not in (Tensor, nn.Parameter)]
            if foreign:  # a tensor of another class may communicate when it is looked at
                self.gathered.unseen[f"tensors of class {foreign[0]}"] = "not looked into"
                return None
            tensors = list(tensors_in((*args, *kwargs.values())))
            known = [self._of(tensor) for tensor in tensors]
            if not any(known):
                return None
            call = OperationCall(func.__name__.partition(".")[0], func, args, kwargs, tensors, known)
            if call.flows:
                call.before = self.gathered.before(call)
        except Exception as error:  # the step goes on without us
            self.error = error
            return None
        return call

    def _after(self, call: OperationCall, result: Any, frame: FrameType) -> None:
        try:
            with unobserved():
                made = [tensor for tensor in tensors_in((result,)) if tensor.is_floating_point()]
                if made and call.name != "detach":
                    call.frame = frame
                    self._follow(call, made)
        except Exception as error:
            self.error = error
        finally:
            call.frame = None

    def _of(self, tensor: Tensor) -> Known | None:
        known = self._known.get(tensor)
        if known is not None:
            return known
        if isinstance(tensor, nn.Parameter):
            owners = self._owners.get(id(tensor), [""])
            return Weight(owners[0], tensor.requires_grad)
        if tensor.requires_grad and tensor.grad_fn is not None:
            return self._arrived(tensor)
        return None

    def _arrived(self, tensor: Tensor) -> Known:
        """Return what is known of the result of something that was not seen, from the autograd graph."""
        node: Any = tensor.grad_fn
        nodes = dict.fromkeys(each for each, _ in node.next_functions if each is not None)
        variables = [each.variable for each in nodes if hasattr(each, "variable")]
        owners = [self._owners[id(variable)][0] for variable in variables if id(variable) in self._owners]
        is_custom = hasattr(node, "_forward_cls")
        if owners and len(variables) == len(nodes) and not is_custom:
            # A view of parameters that was made before the step, as sharded strategies have them.
            self._known[tensor] = weight = Weight(owners[0], True)
            return weight
        flows = [known for known in self._known.made_by(set(nodes)) if isinstance(known, Dataflow)]
        self.gathered.note_unseen(node, owners)
        flow = merged_dataflow(flows, flows[0] if flows else Dataflow())
        if owners and is_custom:
            flow = self._left(owners[-1], True, flows, node.name(), tensor)
        unit = 1 if "BatchNorm" in node.name() or tensor.ndim == 2 else None
        flow = replace(flow, unit=unit, is_direct=False, is_score=False, gate=None)
        self._known[tensor] = flow
        return flow

    def _left(self, layer: str, trains: bool, flows: list[Dataflow], op: str, tensor: Tensor) -> Dataflow:
        """Return what is known of a tensor that leaves a layer; what came before the layer is an inner part."""
        for flow in flows:
            for site in flow.sites:
                site.is_inner = True
            for output in flow.outputs:
                output.release()
        output = Output(layer, [Stage(op)], [tensor], tensor)
        self.gathered.outputs.append(output)
        return Dataflow(layer, trains, is_direct=True, outputs=frozenset({output}))

    def _follow(self, call: OperationCall, made: list[Tensor]) -> None:
        if normalizes(call.name):
            self._norm(call, made[0])
        elif call.name in RECURRENT or (call.name in PRODUCTS | LOOKUPS and self._is_layer(call)):
            self._layer(call, made)
        elif call.flows:
            self._pass(call, made)
        elif len(call.weights) < len(call.tensors):  # a parameter meets the batch entry by entry
            # No output of a layer: a noise or a prior variance that is learned is the same for all samples by design.
            self._known[made[0]] = Dataflow(call.weights[0].layer, call.trains)
        else:
            for tensor in made:
                self._known[tensor] = Weight(call.weights[0].layer, call.trains)

    def _is_layer(self, call: OperationCall) -> bool:
        weights = [isinstance(self._of(tensor), Weight) for tensor in factors(call.name, call.tensors)]
        return any(weights) and not all(weights)

    def _layer(self, call: OperationCall, made: list[Tensor]) -> None:
        layer = self._owner(call)
        flow = self._left(layer, call.trains, call.flows, call.op, made[0])
        for tensor, known in zip(call.tensors, call.known, strict=True):
            if known is None:
                self.gathered.saw_first(tensor)
        is_left = call.name in ("mm", "bmm") and isinstance(call.known[0], Weight)  # weights times batch
        flow = replace(flow, is_spatial=convolves(call.name))
        self.gathered.saw_layer(layer, made[0])
        if call.name in RECURRENT:
            self.gathered.unseen[layer] = f"gates and states within one kernel ({call.name})"
        for tensor in made:  # the last states of a recurrent layer have one dimension less than its outputs
            unit = 1 if convolves(call.name) else tensor.ndim - (2 if is_left else 1)
            self._known[tensor] = replace(flow, unit=unit)

    def _owner(self, call: OperationCall) -> str:
        """Return the layer that a weight belongs to; of a weight that is shared or unknown, the one that is running."""
        layer = call.weights[-1].layer
        owners = self._sharing.get(layer, [layer])
        if layer and len(owners) == 1:
            return layer
        running = self.gathered.place(call).module or ""
        return running if not layer or running in owners else layer

    def _norm(self, call: OperationCall, made: Tensor) -> None:
        tensor, known = call.tensors[0], call.known[0]
        flow = known if isinstance(known, Dataflow) else Dataflow()
        layer = call.weights[0].layer if call.weights else self.gathered.place(call).module or flow.layer
        self.gathered.saw_norm(layer, tensor)
        is_last = "layer" in call.name or "rms" in call.name  # the units lie in the last dimension, if none is known
        unit = flow.unit if is_last else 1
        unit = tensor.ndim - 1 if unit is None else unit
        if call.weights:
            flow = self._left(layer, call.trains, call.flows, call.op, made)
            self.gathered.saw_layer(layer, made)
        else:
            self._move_on(call, made)
        is_spatial = not is_last and tensor.ndim > 2
        self._known[made] = replace(flow, unit=unit, is_spatial=is_spatial, is_score=False, gate=None)

    def _pass(self, call: OperationCall, made: list[Tensor]) -> None:
        """Follow an operation that has no parameters of its own."""
        tensor, main = call.source
        self._mark_gates(call)
        flow = merged_dataflow(call.flows, main)
        is_product = call.name in PRODUCTS
        right = call.known[-1] if isinstance(call.known[-1], Dataflow) else None
        if is_product:
            flow = replace(flow, layer=(right or main).layer, is_spatial=False, is_score=len(call.flows) > 1)
        is_direct, gate = main.is_direct and _moves(call), None if call.others else main.gate
        for each in made:
            unit = carried(main, call.name, call.args, tensor.shape, each.shape)
            if is_product:
                unit = each.ndim - 1 if right is not None else None
            self._known[each] = replace(flow, unit=unit, is_direct=is_direct, gate=gate)
        if len(made) == 1:
            self._move_on(call, made[0])
        if call.name in COMPARING:
            self.gathered.saw_target(main, tensor, call)
        whole = call.tensors[0]._base
        if call.is_in_place and whole is not None:
            # What was written into a part of a larger tensor is in the larger one.
            self._known[whole] = replace(flow, unit=None, is_direct=is_direct, gate=None)
        site = self.gathered.activation(call, tensor, main, made[0])
        if site is not None:
            after = replace(flow, unit=main.unit, is_direct=False, is_score=False, gate=site)
            self._known[made[0]] = replace(after, sites=flow.sites | {site})

    def _mark_gates(self, call: OperationCall) -> None:
        if call.name in GATING and len(call.flows) > 1:
            for flow in call.flows:
                if flow.gate is not None and "sigmoid" in flow.gate.op:
                    flow.gate.is_gate = True

    def _move_on(self, call: OperationCall, new: Tensor) -> None:
        """Follow outputs of layers on their way to the loss, as long as they are still outputs."""
        if not new.ndim or None in call.others or not (_moves(call) or is_of_the_network(call)):
            return
        stage = None if _moves(call) else Stage(call.op, self.gathered.place(call))
        for old, flow in zip(call.tensors, call.known, strict=True):
            for output in flow.outputs if isinstance(flow, Dataflow) else ():
                if output.tensor is old:
                    output.move(new, stage)


def _moves(call: OperationCall) -> bool:
    """Tell whether the operation leaves each number as it is, or adds a bias."""
    return call.name in MOVES or (call.name in ("add", "add_") and not call.others)
