"""What lies in the files of a showcase."""

from __future__ import annotations

import json

import numpy as np

from digan.data.video import decode_frames
from tests.showcase.conftest import Shown


def film_frames(shown: Shown, section: str, group: int = 1, film: int = 1) -> np.ndarray:
    path = shown.folder / "media" / section / f"{section}-{group}-{film}.mp4"
    return np.stack([frame.image for frame in decode_frames(path)])


def boxed(frames: np.ndarray, size: int) -> np.ndarray:
    """Which frames [T, H, W, 3] have the red border: their edge is redder than just inside.

    A line of one pixel has half of its colour in yuv420p, and lends it to its neighbour.
    """
    red = frames[..., 0].astype(int) - frames[..., 1:].astype(int).mean(axis=-1)
    return red[:, 0, :size].mean(axis=-1) - red[:, 4, 4 : size - 4].mean(axis=-1) > 35


def record_of(shown: Shown, section: str) -> dict:
    return json.loads((shown.folder / "media" / section / "section.json").read_text())["section"]


def group_of(shown: Shown, section: str, group: int) -> dict:
    return record_of(shown, section)["groups"][group - 1]
