"""The mapping network: latent and label to the code w."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from digan.nn.layers import FullyConnected, normalize_second_moment


class Mapping(nn.Module):
    """z [B, D] and a class [B] to w [B, D]: normalise, embed the label, fully connected layers.

    The generator's has z and perhaps a label; a conditional discriminator's has a label only
    (latent_dim 0).
    """

    def __init__(self, latent_dim: int, num_classes: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.embed = FullyConnected(num_classes, width) if num_classes else None
        sizes = [latent_dim + (width if num_classes else 0), *[width] * num_layers]
        self.layers = nn.ModuleList(
            FullyConnected(i, o, "lrelu", lr_multiplier=0.01) for i, o in pairwise(sizes)
        )

    def forward(self, z: Tensor | None, label: Tensor | None) -> Tensor:
        """Codes of a batch.

        Args:
            z: [B, D]; None where latent_dim is 0.
            label: class indices [B], integer; or class weights [B, K], floating point.

        Raises:
            ValueError: z does not fit; a label is missing, out of range (on the CPU; CUDA
                asserts), does not fit, or is given to an unconditional network.
        """
        parts = []
        if self.latent_dim:
            if z is None or z.dim() != 2 or z.shape[1] != self.latent_dim:
                came = None if z is None else list(z.shape)
                raise ValueError(f"z must be [B, {self.latent_dim}], got {came}")
            parts.append(normalize_second_moment(z))
        if self.embed is not None:
            parts.append(normalize_second_moment(self.embed(self._one_hot(label))))
        elif label is not None:
            raise ValueError("label must be None for an unconditional network")
        x = torch.cat(parts, dim=1)
        for layer in self.layers:
            x = layer(x)
        return x

    def _one_hot(self, label: Tensor | None) -> Tensor:
        classes = self.num_classes
        if label is None:
            raise ValueError(f"label must be one of {classes} classes for every sample, got None")
        assert self.embed is not None
        dtype = self.embed.weight.dtype
        if label.is_floating_point():
            if label.dim() != 2 or label.shape[1] != classes:
                raise ValueError(f"class weights must be [B, {classes}], got {list(label.shape)}")
            return label.to(dtype)
        if label.dim() != 1:
            raise ValueError(f"class indices must be [B], got {list(label.shape)}")
        try:
            return functional.one_hot(label.long(), classes).to(dtype)
        except RuntimeError as error:
            raise ValueError(
                f"label must be from 0 to {classes - 1}, got {label.tolist()}"
            ) from error
