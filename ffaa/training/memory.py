"""Memory of one rank while it trains, computed: model states by formula, activations by a step without numbers.

A step runs on fake tensors, which have shapes, types and storages but no memory; what lives at once is added up, so
that attention, autocast, adapters and checkpointing count as they are and no formula of a network is needed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ADAM_BYTES = 8
"""Of AdamW's two moments in float32, a trained parameter."""
MASTER_BYTES = 4
"""Of the float32 copy of a trained parameter that DeepSpeed updates."""
BUCKET = 2 * 10**7
"""``reduce_bucket_size`` of configs/deepspeed/: numbers whose gradients are sent together."""
MAX_LIVE = 10**9
"""``stage3_max_live_parameters`` there: parameters that ZeRO-3 gathers at most before it lets go of some."""
HOST = "in host memory"
"""The part of model states that lies outside the device."""
MAX_GATHER = 2 * 10**8
"""``allgather_bucket_size`` that transformers and DeepSpeed leave at 2e8 or more: trained numbers gathered together."""


@dataclass(frozen=True)
class Strategy:
    """How model states are spread over ranks (ZeRO, arXiv 1910.02054)."""

    name: str
    stage: int
    offload: bool = False
    """Parameters and optimiser states wait in the host's memory."""


STRATEGIES = (
    Strategy("ZeRO-0", 0),
    Strategy("ZeRO-2", 2),
    Strategy("ZeRO-3", 3),
    Strategy("ZeRO-3, offload", 3, offload=True),
)


@dataclass(frozen=True)
class Sizes:
    """What is to be held, before it is spread."""

    frozen_bytes: int
    """All frozen weights as they are held, quantised ones as packed."""
    frozen: int
    """Frozen parameters."""
    trained: int
    """Trained parameters."""
    itemsize: int
    """Bytes of a number under DeepSpeed and of what it sends: 2 in mixed precision, 4 in float32."""


def model_states(sizes: Sizes, strategy: Strategy, ranks: int) -> dict[str, int]:
    """Part -> bytes on one rank; ``HOST`` is what one rank keeps outside the device.

    ZeRO-0 is plain data parallelism: trained weights stay in float32, gradients are reduced in buckets of their size.
    ZeRO-2 and 3 keep trained weights in the training precision beside a float32 copy (``MASTER_BYTES``); gradients are
    held as reduced and, while the optimiser moves, as float32. Where everything trains in 16 bits, ZeRO-2 and ZeRO-3
    give what ``estimate_zero2/3_model_states_mem_needs`` of DeepSpeed give, less ZeRO-3's largest layer, which is part
    of the gathered weights here.
    """
    trained, item = sizes.trained, sizes.itemsize
    optimiser = (ADAM_BYTES + MASTER_BYTES) * trained // ranks
    if strategy.stage == 0:
        parts = {
            "frozen weights": sizes.frozen_bytes,
            "trained weights": 4 * trained,
            "gradients": 4 * trained,
            "optimiser states": ADAM_BYTES * trained,
            "buffers": 4 * trained if ranks > 1 else 0,
        }
    elif strategy.stage == 2:
        parts = {
            "frozen weights": sizes.frozen_bytes,
            "trained weights": item * trained,
            "gradients": (item + 4) * trained // ranks,
            "optimiser states": optimiser,
            # Two of the first, since one is filled while the other is sent (overlap_comm).
            "buffers": item * (2 * min(trained, BUCKET) + min(trained, MAX_GATHER)),
        }
    else:
        weights = {
            "frozen weights": sizes.frozen_bytes // ranks,
            "trained weights": item * trained // ranks,
            "optimiser states": optimiser,
        }
        gathered = item * min(sizes.frozen + trained, MAX_LIVE) if ranks > 1 or strategy.offload else 0
        parts = {
            **(dict.fromkeys(weights, 0) if strategy.offload else weights),
            "gradients": 4 * trained // ranks,
            "buffers": 2 * item * min(trained, BUCKET),
            "gathered weights, at most": gathered,
        }
        if strategy.offload:
            parts[HOST] = sum(weights.values())
    return parts


def on_device(parts: Mapping[str, int]) -> int:
    """The sum of what lies on the device."""
    return sum(size for name, size in parts.items() if name != HOST)


class LiveBytes(TorchDispatchMode):
    """Bytes of all storages made while it is on: ``now``, and ``peak`` since it was entered.

    Views of the weights of ``model`` (the transpose that a linear layer multiplies by) are met too, and not counted.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        weights = (*model.parameters(), *model.buffers())
        self._known: dict[int, int] = {weight.untyped_storage()._cdata: 0 for weight in weights}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._meet(leaf.untyped_storage())
        return out

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key)


def activations(
    model: nn.Module, step: Callable[[], Tensor], dtype: torch.dtype, *, checkpointing: bool = True, gpu: bool = True
) -> dict[bool, int]:
    """Peak bytes that a step needs beside weights, gradients and optimiser: {False: all kept, True: checkpointed}.

    Args:
        model: on the meta device, in training mode; its parameters become fake ones. With ``checkpointing`` it has
            transformers' ``activation_checkpointing_enable``, and both ways are run.
        step: gives the loss of a batch that it makes up; it may not look at numbers.
        dtype: of autocast; float32 for none.
        checkpointing: whether the second way is there.
        gpu: count dropout as a GPU keeps it.
    """
    peaks = {}
    # The CPU's kernels are traced; as on a GPU, attention there never holds its square matrix.
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        if gpu:
            _replace_dropout(model)
        for parameter in model.parameters():
            if parameter.requires_grad:  # gradients are counted whole, apart
                parameter.register_post_accumulate_grad_hook(_drop_gradient)
        for checkpointed in (False, True)[: 1 + checkpointing]:
            if checkpointed:
                enable: Any = model.activation_checkpointing_enable
                enable({"use_reentrant": False})
            with LiveBytes(model) as live:
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    loss = step()
                loss.backward()
            del loss
            peaks[checkpointed] = live.peak
    return peaks


class ByteDropout(nn.Module):
    """Dropout that keeps a byte a number for the backward pass, as GPUs do; the CPU's kernel keeps the noise itself."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, states: Tensor) -> Tensor:
        """Any shape."""
        return torch.native_dropout(states, self.p, True)[0] if self.training else states


def _replace_dropout(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout) and child.p:
                setattr(module, name, ByteDropout(child.p).train(child.training))


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None
