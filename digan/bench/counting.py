"""Counts of arithmetic and memory of a piece of work: facts where a clock gives noise.

`torch.utils.flop_counter` sees digan's ops from outside, by the formula that each registers.
`WorkCounter` looks inside their PyTorch kernels, so it can tell whether that formula is true,
and it sees every tensor that is allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from digan.ops._registry import default_kernel


def count_flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions of some work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _linear_flops(x: Tensor, weight: Tensor) -> int:
    return 2 * x.numel() * weight.shape[0]


class WorkCounter(TorchDispatchMode):
    """What some work does, operation by operation, also inside digan's own ops.

    Attributes:
        flops: of matrix products and convolutions.
        allocated: bytes of all tensors that were made.
        largest: bytes of the largest of them, and its shape.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.allocated = 0
        self.largest = 0
        self.largest_shape: tuple[int, ...] = ()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func.namespace == "digan":
            with self:
                return default_kernel(func.overloadpacket.__name__)(*args, **kwargs)
        if func.overloadpacket not in flop_registry:
            with self:  # conv2d and its like are made of others
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _is_dense(t)}
        out = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=out)
        elif func.namespace == "mkldnn" and packet.__name__ == "_linear_pointwise":
            self.flops += _linear_flops(*args[:2])
        for tensor in tree_leaves(out):
            if _is_dense(tensor) and tensor.untyped_storage()._cdata not in known:
                known.add(tensor.untyped_storage()._cdata)
                self._allocate(tensor)
        return out

    def _allocate(self, tensor: Tensor) -> None:
        size = tensor.untyped_storage().nbytes()
        self.allocated += size
        if size > self.largest:
            self.largest, self.largest_shape = size, tuple(tensor.shape)


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided
