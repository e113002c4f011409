"""Single pictures: read from files, cropped and resized, packed as records, laid on sheets."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageOps

from digan.errors import DiganError

RESIZE_FILTER = "lanczos"  # recorded in every store, since it changes evaluation numbers
JPEG_QUALITY = 95
# Pixels of a picture or frame, beyond which its header is not believed: 8192 x 8192.
MOST_PIXELS = 1 << 26

Image = NDArray[np.uint8]


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read a picture file as uint8 RGB [H, W, 3].

    Grey, palette and CMYK are converted, 16 bits are cut to 8, alpha is composited on
    black and the camera's orientation tag is applied. Raises DiganError if it is no picture.
    """
    try:
        with PilImage.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"{opened.width}x{opened.height} pixels are too many")
            image: PilImage.Image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):
                grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if image.mode == "I":  # 32-bit: what 16-bit PNG was read as by older Pillow
                grey = (np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if image.has_transparency_data:
                rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
                return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError) as error:
        raise DiganError(f"{path} is no picture: {str(error).splitlines()[0]}") from error


def square(image: Image, resolution: int) -> Image:
    """Centre square of uint8 [H, W, 3], resized to [resolution, resolution, 3].

    Lanczos with antialias (the filter is as wide as the reduction). An odd margin leaves
    the extra line at the right or bottom. A square of the right size comes back unchanged.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == resolution:
        return image
    resized = PilImage.fromarray(image).resize(
        (resolution, resolution), PilImage.Resampling.LANCZOS
    )
    return np.array(resized)


def encode_record(image: Image, codec: str) -> bytes:
    """Pack uint8 [H, W, 3] as PNG (lossless) or JPEG (quality 95, no chroma subsampling)."""
    out = io.BytesIO()
    if codec == "png":
        PilImage.fromarray(image).save(
            out, "PNG", compress_level=4
        )  # 6 takes a third longer for 0.3 % less
    else:
        PilImage.fromarray(image).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def decode_record(data: bytes, resolution: int | None = None) -> Image:
    """Unpack a record to uint8 [H, W, 3], which must be `resolution` a side if that is given.

    Raises OSError or ValueError for another size, before anything is unpacked; for damaged
    bytes these, or what else Pillow's decoders raise.
    """
    with PilImage.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        if resolution is not None and image.size != (resolution, resolution):
            raise ValueError(f"its size is {image.size}")
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def write_frame_sheet(
    path: str | os.PathLike[str],
    frames: Image,
    columns: int = 8,
    upscale: int = 1,
    gap: int = 2,
) -> None:
    """Write a contact sheet as PNG: one row a video, at most `columns` frames a row.

    `frames` is uint8 [T, H, W, 3] for one video or [N, T, H, W, 3] for N; each row shows
    frames spread evenly from the first to the last. `upscale` repeats pixels, `gap` is the
    white space between pictures in pixels. Raises DiganError for other shapes and for a
    place that cannot be written.
    """
    if frames.ndim == 4:
        frames = frames[None]
    if frames.ndim != 5 or frames.shape[4] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise DiganError(
            "frames must be uint8 [T, H, W, 3] or [N, T, H, W, 3], "
            f"got {frames.dtype} {list(frames.shape)}"
        )
    rows, length, height, width = frames.shape[:4]
    shown = np.linspace(0, length - 1, min(max(columns, 1), length)).round().astype(int)
    height, width = height * upscale, width * upscale
    sheet = np.full(
        (rows * (height + gap) + gap, len(shown) * (width + gap) + gap, 3), 255, dtype=np.uint8
    )
    for row in range(rows):
        for column, t in enumerate(shown):
            tile = frames[row, t].repeat(upscale, axis=0).repeat(upscale, axis=1)
            y, x = gap + row * (height + gap), gap + column * (width + gap)
            sheet[y : y + height, x : x + width] = tile
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        PilImage.fromarray(sheet).save(target, "PNG")
    except (OSError, ValueError) as error:
        raise DiganError(f"{target} cannot be written: {error}") from error
