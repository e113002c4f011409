"""A network's convolution weights, made ready once for many passes.

A convolution reads `weight * gain` in its arithmetic's dtype and in channels-last memory. Made
where it is used, that copy would be written once a pass: for fakes and for reals, for every
micro-batch, and its gradient would go the same way back.
"""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn

from digan.nn.layers import Convolution


class PreparedWeights:
    """Inside `with`, every `Convolution` of a network reads a copy that was made on entry.

    The copies are leaves of autograd, so that gradients of any order reach them; on exit the
    sum over all passes goes to the parameters, times the gain, and replaces what they had.
    Call `gather` after every backward pass: the sums of several passes are kept in the
    parameters' dtype, also where a copy and the gradient of one pass are narrower.

    Weights that ask for no gradient on entry have copies that ask for none, so that no gradient
    by a weight is ever computed.

    Args:
        network: of any kind; its parameters must not change inside.
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers = [m for m in network.modules() if isinstance(m, Convolution)]
        self.copies: list[Tensor] = []
        self._sums: list[Tensor | None] = []

    def __enter__(self) -> PreparedWeights:
        with torch.no_grad():
            self.copies = [layer.prepare() for layer in self.layers]
        self._sums = [None] * len(self.copies)
        for layer, copy in zip(self.layers, self.copies, strict=True):
            layer.prepared = copy.requires_grad_(layer.weight.requires_grad)
        return self

    @torch.no_grad()
    def gather(self) -> None:
        """Takes up what the backward passes since the last call have left."""
        for i, (layer, copy) in enumerate(zip(self.layers, self.copies, strict=True)):
            found, copy.grad = copy.grad, None
            if found is None:
                continue
            total = self._sums[i]
            if total is None:  # autograd's own tensor, which nobody else holds
                self._sums[i] = found.to(layer.weight.dtype)
            else:
                total += found

    @torch.no_grad()
    def _hand_over(self) -> None:
        """The gradients to the parameters, in the parameters' own memory format."""
        for layer, total in zip(self.layers, self._sums, strict=True):
            if total is not None:
                gradient = torch.empty_like(layer.weight)
                layer.weight.grad = torch.mul(total, layer.weight_gain, out=gradient)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.gather()
            self._hand_over()
        for layer in self.layers:
            layer.prepared = None
        self.copies, self._sums = [], []
