"""Videos side by side with a name above each, and the same as rows of a sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from digan.data.images import write_frame_sheet
from digan.data.video import VideoWriter
from digan.errors import DiganError
from digan.synthesis import beside, red_box

Frames = NDArray[np.uint8]
SIDE = 160  # pixels of a frame, at least: small ones are enlarged, each pixel a square
SHEET_COLUMNS = 8
_TEXT = 13  # pixels of the letters
_STRIP = 20  # and of the strip they stand on
_GAP = 4  # pixels between panels


@dataclass(frozen=True)
class Panel:
    """One video of several.

    Attributes:
        name: what it shows, in words. frames: uint8 [T, S, S, 3].
        boxed: bool [T], frames in a red box; None for none.
    """

    name: str
    frames: Frames
    boxed: NDArray[np.bool_] | None = None

    def drawn(self, scale: int) -> Frames:
        """The frames enlarged, with their boxes."""
        large = self.frames.repeat(scale, axis=1).repeat(scale, axis=2)
        return large if self.boxed is None else red_box(large, self.boxed)


def write_panels(stem: Path, panels: list[Panel], fps: float) -> list[Path]:
    """`STEM.mp4`, all panels side by side, and `STEM-sheet.png`, a row each; returns both.

    Raises:
        DiganError: they cannot be written.
    """
    scale = max(1, -(-SIDE // panels[0].frames.shape[1]))
    drawn = [panel.drawn(scale) for panel in panels]
    side = drawn[0].shape[2]
    heading = beside(*(_label(panel.name, side)[None] for panel in panels), gap=_GAP)[0]
    together = beside(*drawn, gap=_GAP)
    video = stem.with_name(f"{stem.name}.mp4")
    with VideoWriter(video, fps) as writer:
        for frame in together:
            writer.write(np.concatenate([heading, frame]))
    sheet = stem.with_name(f"{stem.name}-sheet.png")
    rows = np.stack(drawn)
    write_frame_sheet(sheet, rows, columns=SHEET_COLUMNS)
    _name_rows(sheet, [panel.name for panel in panels], side)
    return [video, sheet]


def _label(name: str, width: int) -> NDArray[np.uint8]:
    """A name on a white strip: uint8 [_STRIP, width, 3]."""
    strip = Image.new("RGB", (width, _STRIP), "white")
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(_TEXT)
    while draw.textlength(name, font) > width - 4 and font.size > 6:  # type: ignore[union-attr]
        font = ImageFont.load_default(font.size - 1)  # type: ignore[union-attr]
    draw.text((3, 2), name, "black", font)
    return np.asarray(strip)


def _name_rows(sheet: Path, names: list[str], side: int) -> None:
    """Puts the rows' names to the left of a sheet of write_frame_sheet."""
    gap = 2
    font = ImageFont.load_default(_TEXT)
    try:
        with Image.open(sheet) as opened:
            picture = opened.convert("RGB")
        draw = ImageDraw.Draw(picture)
        margin = 10 + int(max(draw.textlength(name, font) for name in names))
        wide = Image.new("RGB", (picture.width + margin, picture.height), "white")
        wide.paste(picture, (margin, 0))
        draw = ImageDraw.Draw(wide)
        for row, name in enumerate(names):
            draw.text((5, gap + row * (side + gap) + side // 2 - 8), name, "black", font)
        wide.save(sheet, "PNG")
    except OSError as error:
        raise DiganError(f"{sheet} cannot be written: {error.strerror or error}") from error
