"""Codes for a clip, by gradient descent from w_avg: see `digan.inversion.phases` for the plan."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digan.data.progress import progress_bar
from digan.errors import DiganError
from digan.grid import BASE_SIZE, SpaceTimeGrid
from digan.inversion.clip import Clip
from digan.inversion.phases import FitSettings, Phase, plan
from digan.inversion.space import CodeSpace, measure_space
from digan.nn import Generator
from digan.nn.generator import cell_pixels
from digan.randomness import sample_rng
from digan.synthesis import Codes, Shot, render

SPREAD = 1.0  # of the last start about w_avg, in whitened coordinates; the first is w_avg itself
CHECK = 25  # steps between two looks at all observed frames, in the last phase
GAIN = 0.01  # dB that count as progress


@dataclass(frozen=True)
class Row:
    """One step of one start: what the curve is drawn of. `psnr` is of the frames drawn, in dB."""

    step: int
    phase: str
    start: int
    loss: float
    psnr: float


@dataclass(frozen=True)
class Inversion:
    """What was found.

    Attributes:
        codes: of one video. psnr: of the observed frames as they were seen, in dB.
        start: the number of the start it came from. steps: that were made.
        ended: why: "all steps", "no more progress", "good enough" or "interrupted".
        seconds: of the whole optimisation.
        history: every step of every start.
        checks: steps, and the PSNR of all observed frames there.
    """

    codes: Codes
    psnr: float
    start: int
    steps: int
    ended: str
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list, repr=False)
    checks: list[tuple[int, float]] = field(default_factory=list, repr=False)


@dataclass
class _Starts:
    """The codes that still take part."""

    numbers: list[int]
    content: Tensor  # u [B, D], or [B, num_ws, D] once every layer has its own
    motion: Tensor  # [B, D]

    def take(self, chosen: list[int]) -> _Starts:
        return _Starts(
            [self.numbers[i] for i in chosen],
            self.content.detach()[chosen].clone(),
            self.motion.detach()[chosen].clone(),
        )


def fit_clip(
    generator: Generator,
    clip: Clip,
    settings: FitSettings | None = None,
    *,
    progress: bool = False,
) -> Inversion:
    """Seeks the codes whose video is the clip, at its observed frames.

    The loss of a start is the mean of `apart(video, clip)^2` over the pixels drawn at this step,
    plus the priors of `FitSettings`. Starts do not see each other.
    Ctrl-C ends it and keeps the best so far.

    Args:
        generator: the network; its parameters are not changed.
        clip: frames of the network's resolution.
        settings: how to seek.
        progress: a bar on standard error.

    Raises:
        DiganError: no start gives finite frames.
        ValueError: frames of another resolution.
    """
    settings = settings or FitSettings()
    resolution = generator.config.resolution
    if clip.frames.shape[1:3] != (resolution, resolution):
        raise ValueError(
            f"the clip's frames must be {resolution}x{resolution}, "
            f"got {clip.frames.shape[1]}x{clip.frames.shape[2]}"
        )
    return _Fit(generator, clip, settings).run(progress)


class _Fit:
    """One optimisation, from its starts to the best codes."""

    def __init__(self, generator: Generator, clip: Clip, settings: FitSettings) -> None:
        self.generator = generator
        self.settings = settings
        self.space: CodeSpace = measure_space(generator)
        like = generator.w_avg
        order = sorted(clip.indices, key=lambda i: (abs(float(clip.t[i])), i))
        self.t = clip.t[order]
        seen = np.ascontiguousarray(clip.seen[order])
        self.target = torch.from_numpy(seen).to(like.device, like.dtype) / 127.5 - 1
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.history: list[Row] = []
        self.checks: list[tuple[int, float]] = []
        self.best: tuple[float, int, Codes] | None = None
        self.steps = 0

    def run(self, progress: bool) -> Inversion:
        began = time.perf_counter()
        starts = self._begin()
        ended = "all steps"
        with progress_bar("inversion", self.settings.steps, "step", progress) as bar:
            try:
                for phase in plan(self.settings):
                    order = self._ranked(starts)
                    starts = starts.take(sorted(order[: phase.starts]))
                    starts, early = self._phase(phase, starts, bar)
                    ended = early or ended
                self._ranked(starts)
            except KeyboardInterrupt:
                ended = "interrupted"
                self._ranked(starts)
        if self.best is None:
            raise DiganError("no start gives finite frames: try another seed, or a smaller lr")
        score, number, codes = self.best
        return Inversion(
            codes, score, number, self.steps, ended, time.perf_counter() - began,
            self.history, self.checks,
        )  # fmt: skip

    def _begin(self) -> _Starts:
        """From w_avg to as far from it as codes usually are, each with a motion code of its own."""
        dim, like = self.generator.config.latent_dim, self.generator.w_avg
        content, motion = [], []
        for number in range(self.settings.starts):
            rng = sample_rng(self.settings.seed, "inversion/start", number)
            draws = torch.from_numpy(rng.standard_normal((2, dim)).astype(np.float32))
            content.append(draws[0] * (SPREAD * number / max(self.settings.starts - 1, 1)))
            motion.append(draws[1])
        return _Starts(
            list(range(self.settings.starts)),
            torch.stack(content).to(like),
            torch.stack(motion).to(like),
        )

    def _codes(self, content: Tensor, motion: Tensor) -> Codes:
        w = self.space.codes(content)
        if w.dim() == 2:
            w = w[:, None].expand(-1, self.generator.num_ws, -1)
        return Codes(w, motion)

    def _phase(self, phase: Phase, starts: _Starts, bar: Any) -> tuple[_Starts, str]:
        """Makes the steps of a phase; returns the codes, and why it ended early, or ""."""
        content, motion = starts.content, starts.motion
        if phase.per_layer:
            content = content[:, None].repeat(1, self.generator.num_ws, 1)
        starts.content = content.requires_grad_()
        starts.motion = motion.requires_grad_()
        optimizer = torch.optim.Adam([starts.content, starts.motion], betas=(0.9, 0.95))
        count = len(starts.numbers)
        bar.set_description(f"{phase.name}, {count} of {self.settings.starts} starts")
        last = phase.starts == 1
        top, since = -math.inf, 0
        for step in range(phase.steps):
            optimizer.param_groups[0]["lr"] = self.settings.lr * phase.rate(step)
            loss, error = self._loss(phase, step, starts)
            # For these two alone: a network that is still being trained keeps its gradients.
            starts.content.grad, starts.motion.grad = torch.autograd.grad(
                loss.sum(), [starts.content, starts.motion]
            )
            optimizer.step()
            self.steps += 1
            self._record(phase, starts, loss, error, bar)
            if last and ((step + 1) % CHECK == 0):
                score = self._scores(starts)[0]
                self.checks.append((self.steps, score))
                if score >= self.settings.stop_psnr:
                    return starts, "good enough"
                since = 0 if score > top + GAIN else since + CHECK
                top = max(top, score)
                if since >= self.settings.patience:
                    return starts, "no more progress"
        return starts, ""

    def _loss(self, phase: Phase, step: int, starts: _Starts) -> tuple[Tensor, Tensor]:
        """Loss and mean square error of every start, [B] each, on frames and cells drawn."""
        settings, device = self.settings, self.target.device
        pool = phase.frames(step, len(self.t))
        drawn = torch.randperm(pool, generator=self.rng)[: settings.batch_frames].sort().values
        offsets = torch.randint(phase.stride, (2,), generator=self.rng).tolist()
        rows, columns = (
            torch.arange(offset, BASE_SIZE, phase.stride, device=device) for offset in offsets
        )
        codes = self._codes(starts.content, starts.motion)
        frames = codes.write(self.generator).render_cells(self.t[drawn], rows, columns)
        factor = self.generator.config.resolution // BASE_SIZE
        wanted = self.target[drawn.to(device)]
        wanted = wanted[:, cell_pixels(rows, factor)][:, :, cell_pixels(columns, factor)]
        error = apart(frames, wanted).square().flatten(1).mean(dim=1)
        content = starts.content.flatten(1).square().mean(dim=1)
        motion = starts.motion.square().mean(dim=1)
        loss = error + settings.prior_content * content + settings.prior_motion * motion
        if starts.content.dim() == 3:
            spread = starts.content - starts.content.mean(dim=1, keepdim=True)
            loss = loss + settings.prior_layers * spread.flatten(1).square().mean(dim=1)
        return loss, error

    def _record(self, phase: Phase, starts: _Starts, loss: Tensor, error: Tensor, bar: Any) -> None:
        losses, errors = loss.detach().tolist(), error.detach().tolist()
        found = [_decibels(value) for value in errors]
        for number, value, score in zip(starts.numbers, losses, found, strict=True):
            self.history.append(Row(self.steps, phase.name, number, value, score))
        best = max(range(len(found)), key=lambda i: found[i])
        bar.set_postfix_str(
            f"loss {losses[best]:.5f}, PSNR {found[best]:.1f} dB, "
            f"start {starts.numbers[best] + 1} of {self.settings.starts}",
            refresh=False,
        )
        bar.update()

    def _ranked(self, starts: _Starts) -> list[int]:
        """The starts by their PSNR on all observed frames, the best first."""
        scores = self._scores(starts)
        return sorted(range(len(scores)), key=lambda i: -scores[i])

    @torch.no_grad()
    def _scores(self, starts: _Starts) -> list[float]:
        """PSNR of all observed frames, in dB, a start at a time; keeps the best codes seen.

        One at a time, so that memory does not grow with their number, nor roundings change.
        """
        scores = []
        for i, number in enumerate(starts.numbers):
            codes = self._codes(starts.content[i : i + 1], starts.motion[i : i + 1])
            found = render(self.generator, Shot(codes, SpaceTimeGrid(self.t)))[0]
            error = float((found.clamp(-1, 1) - self.target).square().mean())
            score = _decibels(error)
            scores.append(score)
            if math.isfinite(score) and (self.best is None or score > self.best[0]):
                kept = Codes(codes.ws.detach().clone(), codes.z_motion.detach().clone())
                self.best = (score, number, kept)
        return scores


def apart(frames: Tensor, wanted: Tensor) -> Tensor:
    """frames - wanted, but 0 where a frame is beyond white or black and white or black is wanted.

    A file's 0 and 255 stand for all that is darker or brighter too, and generators go there.

    Args:
        frames: any number. wanted: in [-1, 1], of a shape that broadcasts.
    """
    difference = frames - wanted
    beyond = ((wanted >= 1) & (difference > 0)) | ((wanted <= -1) & (difference < 0))
    return difference.masked_fill(beyond, 0.0)


def _decibels(error: float) -> float:
    """PSNR of colours in [-1, 1]; minus infinity where the error is no number."""
    if not math.isfinite(error):
        return -math.inf
    return 10 * math.log10(4 / max(error, 1e-12))
