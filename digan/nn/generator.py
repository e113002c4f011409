"""The generator: it writes the weights of a coordinate network (x, y, t) -> RGB.

`Generator.write` turns codes into a `VideoINR`, the coordinate network of each video, once;
`VideoINR.render` evaluates it on any space-time grid. The order of computation is the
economical one: matrices once per video, 1x1 layers before nearest upsampling, embeddings
rotated in time (see `digan.ops`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from digan.config import GeneratorConfig
from digan.grid import BASE_SIZE, SpaceTimeGrid
from digan.nn.chains import render_chained
from digan.nn.dense import render_recomputed
from digan.nn.layers import LRELU_GAIN, ModulatedLayer, MotionEmbedding, ToRGB
from digan.nn.mapping import Mapping
from digan.nn.pieces import pieces, strip_of
from digan.ops import Impl, coord_linear, modulated_linear

if TYPE_CHECKING:
    from digan.nn.model_card import ModelCard
    from digan.nn.snapshot import NetworkInfo


@dataclass(frozen=True)
class BlockWeights:
    """What one block's coordinate layers need for B videos, in the compute dtype."""

    freq: Tensor | None  # [B, F, 2]; None for blocks without an embedding
    constant: Tensor | None  # [B, F] phase at t = 0, before the motion network
    motion: Tensor | None  # [B, F]
    upsampled: Tensor | None  # [B, O, I], the first layer's part for the upsampled activation
    layers: list[Tensor]  # [B, O, I] each, times the activation's gain
    biases: list[Tensor]  # [O] each, times the activation's gain
    rgb: Tensor  # [B, 3, O]

    def take(self, videos: slice) -> BlockWeights:
        """Some of the videos."""
        return BlockWeights(
            None if self.freq is None else self.freq[videos],
            None if self.constant is None else self.constant[videos],
            None if self.motion is None else self.motion[videos],
            None if self.upsampled is None else self.upsampled[videos],
            [weight[videos] for weight in self.layers],
            self.biases,
            self.rgb[videos],
        )


class SynthesisBlock(nn.Module):
    """One block: coordinate layers on its grid and a layer to RGB.

    Blocks named 4 to 32 share the 32x32 grid. Block 4 starts from the embedding; blocks from
    64 on upsample and add an embedding of their own grid.
    """

    def __init__(
        self,
        resolution: int,
        config: GeneratorConfig,
        impl: Impl | None,
        tf32: bool | None = None,
    ) -> None:
        super().__init__()
        self.tf32 = tf32
        self.resolution = resolution
        self.grid_size = max(resolution, BASE_SIZE)
        self.is_first = resolution == 4
        self.upsamples = resolution > BASE_SIZE
        self.clamp = config.clamp
        self.impl = impl
        out = config.channels(resolution)
        features = 2 * config.frequencies
        if self.is_first:
            inputs = [features]
        else:
            inputs = [config.channels(resolution // 2) + (features if self.upsamples else 0), out]
        if resolution in (128, 256):
            inputs.append(out)
        embedded = self.is_first or self.upsamples
        self.embedding = (
            MotionEmbedding(config.frequencies, config.latent_dim, config.motion_scale)
            if embedded
            else None
        )
        self.layers = nn.ModuleList(
            ModulatedLayer(i, out, config.latent_dim, config.rank, impl) for i in inputs
        )
        self.to_rgb = ToRGB(out, config.latent_dim)

    def modulated(self) -> list[ModulatedLayer]:
        """The layers, typed."""
        return [layer for layer in self.layers if isinstance(layer, ModulatedLayer)]

    def write(self, ws: Tensor, z_motion: Tensor, dtype: torch.dtype) -> BlockWeights:
        """The block's weights from its rows of ws [B, len(layers) + 1, D]."""
        freq = constant = motion = upsampled = None
        if self.embedding is not None:
            freq, constant, motion = self.embedding.write(ws[:, 0], z_motion)
        # lrelu(gain * z) = gain * lrelu(z): the gain is paid once per video, not per pixel,
        # and before the one rounding to the compute dtype.
        layers = [
            (layer.write(ws[:, i]) * LRELU_GAIN).to(dtype)
            for i, layer in enumerate(self.modulated())
        ]
        biases = [layer.bias * LRELU_GAIN for layer in self.modulated()]
        if self.embedding is not None and self.upsamples:  # [Wx | We], see _embedded
            features = 2 * self.embedding.frequencies
            upsampled = layers[0][:, :, :-features].contiguous()
            layers[0] = layers[0][:, :, -features:].contiguous()
        rgb = self.to_rgb.write(ws[:, -1]).to(dtype)
        return BlockWeights(freq, constant, motion, upsampled, layers, biases, rgb)

    def forward(
        self,
        x: Tensor | None,  # [B, T, H, W, I]
        image: Tensor | None,  # [B, T, H, W, 3]
        weights: BlockWeights,
        t: Tensor,  # [B, T]
        axes: tuple[Tensor, Tensor],  # y [H'], x [W'] of this block's grid
        skip: Tensor | None = None,  # [B, T, H, W, O], what weights.upsampled makes of x, for x
    ) -> tuple[Tensor, Tensor]:
        """Activations and the picture accumulated so far, on this block's grid."""
        for i, (weight, bias) in enumerate(zip(weights.layers, weights.biases, strict=True)):
            if i == 0 and self.embedding is not None:
                x = self._embedded(x, weight, bias, weights, t, axes, skip)
            else:
                assert x is not None
                x = modulated_linear(
                    x, weight, bias, "lrelu", clamp=self.clamp, tf32=self.tf32, impl=self.impl
                )
        assert x is not None
        rgb = modulated_linear(
            x, weights.rgb, self.to_rgb.bias, clamp=self.clamp, tf32=self.tf32, impl=self.impl
        ).to(t.dtype)
        if image is None:
            return x, rgb
        if self.upsamples:
            b, time, h, w, c = rgb.shape
            cells = rgb.view(b, time, h // 2, 2, w // 2, 2, c)
            return x, (cells + image[:, :, :, None, :, None]).view(rgb.shape)
        return x, image + rgb

    def _embedded(
        self,
        x: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        weights: BlockWeights,
        t: Tensor,
        axes: tuple[Tensor, Tensor],
        skip: Tensor | None,
    ) -> Tensor:
        """The layer on [upsample(x) ; embedding], neither of which is ever formed."""
        assert self.embedding is not None
        assert weights.freq is not None
        assert weights.constant is not None
        assert weights.motion is not None
        if x is not None:
            assert weights.upsampled is not None
            skip = modulated_linear(x, weights.upsampled, tf32=self.tf32, impl=self.impl)
        phase = self.embedding.phase(weights.constant, weights.motion, t)
        y_axis, x_axis = axes
        return coord_linear(
            weights.freq, phase, y_axis, x_axis, weight, bias, skip, "lrelu",
            clamp=self.clamp, tf32=self.tf32, impl=self.impl,
        )  # fmt: skip


@dataclass(frozen=True)
class VideoINR:
    """The coordinate networks of B videos, ready to be evaluated anywhere."""

    blocks: list[BlockWeights]
    generator: Generator

    def render(self, grid: SpaceTimeGrid, *, recompute: bool | None = None) -> Tensor:
        """Evaluates the videos on a grid: [B, T, H, W, 3], about [-1, 1], not squashed.

        With gradients off the work is done in pieces of bounded memory (`digan.nn.pieces`). With
        `recompute` it is so with gradients too: a piece's activations are made again in the
        backward pass, one forward pass more, and beside the frames memory does not grow with
        their number.

        Args:
            grid: where. recompute: this once; the generator's own setting if None.
        """
        like = self.blocks[0].freq
        assert like is not None
        config = self.generator.config
        t = grid.times(like.shape[0], like)
        levels = [grid.axes(block.grid_size, like) for block in self.generator.synthesis_blocks()]
        if torch.is_grad_enabled():
            if self.generator.recompute if recompute is None else recompute:
                frames = render_recomputed(self, self._evaluate, t, levels)
            else:
                frames = self._evaluate(self.blocks, t, levels)
            return grid.crop(frames, config.resolution)
        rows, height, width = len(levels[0][0]), len(levels[-1][0]), len(levels[-1][1])
        factor = height // rows
        image = like.new_empty(*t.shape, height, width, 3)
        # One strip after the other, with all frames, so that an embedding serves many frames.
        dtype = self.blocks[0].rgb.dtype
        for piece in pieces(t.shape[0], t.shape[1], rows, factor * width, like.device, dtype):
            blocks = [block.take(piece.videos) for block in self.blocks]
            strips = [(strip_of(y, piece.rows, rows), x) for y, x in levels]
            strip = slice(piece.rows.start * factor, piece.rows.stop * factor)
            image[piece.videos, piece.frames, strip] = self._evaluate(
                blocks, t[piece.videos, piece.frames], strips
            )
        return grid.crop(image, config.resolution)

    def render_cells(self, t: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """A part of every frame, for gradients that need not see all pixels at every step.

        Args:
            t: times in clip units, [T] shared by all videos or [B, T]; float64.
            rows, columns: cells of the 32x32 grid, int64 [R] and [K], in any order.

        Returns:
            [B, T, s*R, s*K, 3] with s = resolution / 32: what the normal frame shows on the cells.
        """
        like = self.blocks[0].freq
        assert like is not None
        grid, levels = SpaceTimeGrid(t), []
        for block in self.generator.synthesis_blocks():
            y, x = grid.axes(block.grid_size, like)
            factor = block.grid_size // BASE_SIZE
            levels.append((y[cell_pixels(rows, factor)], x[cell_pixels(columns, factor)]))
        return self._evaluate(self.blocks, grid.times(like.shape[0], like), levels)

    def _evaluate(
        self, blocks: list[BlockWeights], t: Tensor, levels: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Videos at times t [B, T] on the axes of every block's grid."""
        x: Tensor | None = None
        image: Tensor | None = None
        networks = self.generator.synthesis_blocks()
        if self.generator.chained and not torch.is_grad_enabled():
            chained = render_chained(networks, blocks, t, levels)
            if chained is not None:
                return chained
        for block, weights, axes in zip(networks, blocks, levels, strict=True):
            x, image = block(x, image, weights, t, axes)
        assert image is not None
        return image


def cell_pixels(cells: Tensor, factor: int) -> Tensor:
    """Indices of the pixels of some cells on an axis, `factor` a cell: [len(cells) * factor]."""
    inside = torch.arange(factor, device=cells.device)
    return (cells[:, None] * factor + inside).flatten()


class Generator(nn.Module):
    """Codes to videos.

    Args:
        config: sizes.
        impl: path of the ops, see `digan.ops`.
        dtype: of the coordinate layers' arithmetic; None for the parameters' own. Codes,
            frequencies, phases and the accumulated picture keep the parameters' dtype.
        tf32: whether those layers' products of float32 round their operands to tf32; None for
            PyTorch's setting. Nothing else of the network does.
        recompute: whether gradients make activations again instead of keeping them, see
            `VideoINR.render`.
        chained: whether renderings without gradients take chains of layers where a kernel serves
            them (`digan.nn.chains`).
    """

    w_avg: Tensor
    info: NetworkInfo | None = None
    """What its file says beside the tensors; None for a network that was not loaded."""

    def __init__(
        self,
        config: GeneratorConfig,
        *,
        impl: Impl | None = None,
        dtype: torch.dtype | None = None,
        tf32: bool | None = None,
        recompute: bool = False,
        chained: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.recompute = recompute
        self.compute_dtype = dtype
        self.chained = chained
        self.mapping = Mapping(
            config.latent_dim, config.num_classes, config.latent_dim, config.mapping_layers
        )
        resolutions = [4 << i for i in range((config.resolution // 4).bit_length())]
        self.blocks = nn.ModuleList(SynthesisBlock(r, config, impl, tf32) for r in resolutions)
        self.register_buffer("w_avg", torch.zeros(config.latent_dim))

    def synthesis_blocks(self) -> list[SynthesisBlock]:
        """The blocks, typed."""
        return [block for block in self.blocks if isinstance(block, SynthesisBlock)]

    @property
    def num_ws(self) -> int:
        """Rows of ws: one per layer, and one for the last layer to RGB."""
        return sum(len(block.layers) for block in self.synthesis_blocks()) + 1

    def map(
        self,
        z: Tensor,
        label: Tensor | None = None,
        *,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Codes of all layers, [B, num_ws, D].

        Args:
            z: content latents [B, D].
            label: classes [B], conditional networks only.
            truncation: psi; w moves to w_avg + psi * (w - w_avg).
            truncation_cutoff: rows truncated; None for all.
        """
        ws: Tensor = self.mapping(z, label)[:, None].repeat(1, self.num_ws, 1)
        if truncation == 1:
            return ws
        rows = self.num_ws if truncation_cutoff is None else truncation_cutoff
        return torch.cat([self.w_avg.lerp(ws[:, :rows], truncation), ws[:, rows:]], dim=1)

    @torch.no_grad()
    def update_w_avg(self, mean_w: Tensor, beta: float) -> None:
        """Moves w_avg [D] towards the mean of w over a whole batch."""
        self.w_avg.copy_(mean_w.lerp(self.w_avg, beta))

    def write(self, ws: Tensor, z_motion: Tensor, *, dtype: torch.dtype | None = None) -> VideoINR:
        """The coordinate network of every video.

        Args:
            ws: [B, num_ws, D]. z_motion: motion latents [B, D].
            dtype: of the coordinate layers' arithmetic, this once; the generator's own if None.

        Raises:
            ValueError: shapes that do not fit.
        """
        if ws.dim() != 3 or ws.shape[1:] != (self.num_ws, self.config.latent_dim):
            raise ValueError(
                f"ws must be [B, {self.num_ws}, {self.config.latent_dim}], got {list(ws.shape)}"
            )
        if z_motion.shape != (ws.shape[0], self.config.latent_dim):
            raise ValueError(
                f"z_motion must be [{ws.shape[0]}, {self.config.latent_dim}], "
                f"got {list(z_motion.shape)}"
            )
        dtype = dtype or self.compute_dtype or ws.dtype
        blocks, row = [], 0
        for block in self.synthesis_blocks():
            # A block's layer to RGB shares its row with the next block's first layer.
            count = len(block.layers)
            blocks.append(block.write(ws[:, row : row + count + 1], z_motion, dtype))
            row += count
        return VideoINR(blocks, self)

    def forward(
        self, z: Tensor, z_motion: Tensor, grid: SpaceTimeGrid, label: Tensor | None = None
    ) -> Tensor:
        """Videos [B, T, H, W, 3] on a grid."""
        frames: Tensor = self.write(self.map(z, label), z_motion).render(grid)
        return frames

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        info: NetworkInfo | None = None,
        card: ModelCard | None = None,
    ) -> Path:
        """Writes a folder to share: weights, settings, card (`digan.nn.pretrained`)."""
        from digan.nn.pretrained import save_pretrained

        return save_pretrained(self, folder, info=info, card=card)

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Generator:
        """Loads such a folder, a network file, or a hub's OWNER/NAME (`digan.nn.pretrained`)."""
        from digan.nn.pretrained import from_pretrained

        return from_pretrained(name, **options)

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Uploads what `save_pretrained` writes to a hub (`digan.nn.pretrained`)."""
        from digan.nn.pretrained import push_to_hub

        return push_to_hub(self, name, **options)
