"""The README's Python runs as it stands there, and its pictures exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_gives_the_shape_it_says():
    (example,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
        if "load_network" in block
    )
    said = [int(n) for n in re.search(r"# \[([\d, ]+)\] in \[-1, 1\]", example)[1].split(",")]
    scope: dict = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert list(scope["video"].shape) == said
    assert scope["video"].abs().median() < 1


def test_pictures_and_files_named_are_there():
    names = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert names
    for name in names:
        assert (ROOT / name).is_file(), name
