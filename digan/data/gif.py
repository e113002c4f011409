"""Palettes for GIF: 256 colours for every few dozen frames, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

_BATCH_BYTES = 48 << 20  # frames held back while a palette is chosen
_BATCH_FRAMES = 64
_PALETTE_PIXELS = 32_000  # enough to choose 256 colours from; the time grows with it


class GifPalettes:
    """Turn RGB frames into frames of 256 colours, one palette for each batch of frames.

    A palette of its own for every frame flickers, one palette for a whole video needs the
    whole video in memory; so up to 64 frames (fewer if large: 48 MB) share one. It is chosen
    by median cut and k-means over a sample of their pixels, and errors are diffused
    (Floyd-Steinberg), which keeps smooth skies smooth.
    """

    def __init__(self, height: int, width: int) -> None:
        self._batch = max(1, min(_BATCH_FRAMES, _BATCH_BYTES // (height * width * 3)))
        self._held: list[tuple[NDArray[np.uint8], int]] = []

    def add(self, frame: NDArray[np.uint8], tick: int) -> Iterator[av.VideoFrame]:
        """Take one uint8 frame [H, W, 3] shown at `tick` / 100 s; yield what is ready."""
        self._held.append((frame.copy(), tick))
        if len(self._held) >= self._batch:
            yield from self.flush()

    def flush(self) -> Iterator[av.VideoFrame]:
        """Yield all frames still held, as pal8 with pts in 1/100 s."""
        held, self._held = self._held, []
        if not held:
            return
        palette = _palette([image for image, _ in held])
        # PyAV takes a palette as 256 big-endian ARGB colours.
        argb = np.full((256, 4), 255, dtype=np.uint8)
        colours = np.array(palette.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        argb[: len(colours), 1:] = colours
        for image, tick in held:
            indices = np.array(
                PilImage.fromarray(image).quantize(
                    palette=palette, dither=PilImage.Dither.FLOYDSTEINBERG
                )
            )
            frame = av.VideoFrame(image.shape[1], image.shape[0], "pal8")
            _fill(frame, indices, argb)
            frame.pts, frame.time_base = tick, Fraction(1, 100)
            yield frame


def _palette(images: list[NDArray[np.uint8]]) -> PilImage.Image:
    total = sum(image.shape[0] * image.shape[1] for image in images)
    step = max(1, total // _PALETTE_PIXELS)
    pixels = np.concatenate([image.reshape(-1, 3)[::step] for image in images])[None]
    return PilImage.fromarray(np.ascontiguousarray(pixels)).quantize(
        256, method=PilImage.Quantize.MEDIANCUT, kmeans=1, dither=PilImage.Dither.NONE
    )


def _fill(frame: av.VideoFrame, indices: NDArray[np.uint8], argb: NDArray[np.uint8]) -> None:
    """Copy indices [H, W] and colours [256, 4] (A, R, G, B) into a pal8 frame's planes."""
    plane = frame.planes[0]
    rows = np.zeros((indices.shape[0], plane.line_size), dtype=np.uint8)
    rows[:, : indices.shape[1]] = indices
    plane.update(rows.tobytes())
    words = argb.view(">u4").astype("=u4")  # libav keeps them as native 32-bit words
    frame.planes[1].update(words.tobytes())
