"""examples/dense_video_training.py runs as a user runs it, and learns every frame."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from digan.nn.snapshot import load_network
from tests.test_examples import succeed


def gained(said: str) -> float:
    found = re.search(r"^8 frames a step: ([\d.]+) dB before, ([\d.]+) dB after", said, re.M)
    assert found is not None, said
    return float(found[2]) - float(found[1])


def test_chunks_and_all_frames_at_once(tmp_path):
    """Frames that no chunk divides evenly; the loss of changes sees them all."""
    flags = ("--frames", 8, "--steps", 8, "--chunk", 3)
    said = succeed("dense_video_training", *flags, "--outdir", tmp_path)
    assert gained(said) > 1
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.asarray(sheet).std() > 10
    assert load_network(tmp_path / "network.safetensors")[1].generator.resolution == 32
    said = succeed("dense_video_training", *flags, "--motion", 1, "--outdir", tmp_path)
    assert gained(said) > 1
