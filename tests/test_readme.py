"""The README's Python runs as it stands there, and its pictures exist."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from tests.page_examples import examples_of, run_examples, shapes_of

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_python_examples_run_and_give_the_shapes_they_say():
    # What the example of the ops takes for granted: 2 signals, 5 points, 8 frequencies.
    given = {
        "freq": torch.randn(2, 8, 3),
        "phase": torch.randn(2, 8),
        "coords": torch.randn(2, 5, 3),
        "weight": torch.randn(2, 4, 16),
        "bias": torch.randn(4),
    }
    assert "video" in shapes_of(examples_of(TEXT)[0].code)
    scope = run_examples(README, given)
    assert scope["video"].abs().median() < 1
    assert list(scope["h"].shape) == [2, 5, 4]


def test_pictures_and_files_named_are_there():
    names = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert names
    for name in names:
        assert (ROOT / name).is_file(), name
