"""What a Markdown page shows: its Python examples, which are run, and its command lines.

The Python blocks of a page are one program, in the order of the page. A comment behind an
assignment that begins with numbers in brackets says the shape of what was assigned,

    video = inr.render(grid)  # [3, 61, 160, 160, 3] in [-1, 1]

and a block marked `output` is exactly what the Python block before it prints.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SHAPE = re.compile(r"^ *\(?(\w+),?\)? = .*# \[([\d, ]*)\]", re.MULTILINE)
_COMMAND = re.compile(r"^(?:\$ |    )(digan [^#\n]+)", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """One block of Python: where it begins, what it is, and what it prints if that is said."""

    line: int
    code: str
    output: str | None


def examples_of(text: str) -> list[Example]:
    """The Python blocks of a page, in order."""
    found: list[Example] = []
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(2))
        if block[1] == "python":
            found.append(Example(line, block[2], None))
        elif block[1] == "output":
            found[-1] = Example(found[-1].line, found[-1].code, block[2])
    return found


def commands_of(text: str) -> list[list[str]]:
    """The command lines of a page, as words; those that leave something out are left out."""
    lines = [match[1].split() for match in _COMMAND.finditer(text)]
    return [words for words in lines if "..." not in words and "[flags]" not in words]


def shapes_of(code: str) -> dict[str, list[int]]:
    """The shapes that the comments of an example say, by name."""
    return {
        match[1]: [int(size) for size in match[2].split(",")] for match in _SHAPE.finditer(code)
    }


def run_examples(page: Path, scope: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs the examples of a page and checks what it says about them.

    Args:
        page: a Markdown file.
        scope: names that the page takes for granted.

    Returns:
        All names when the last example has run.
    """
    scope = {} if scope is None else scope
    for example in examples_of(page.read_text(encoding="utf-8")):
        printed = io.StringIO()
        # Lines count from the top of the page, so that a traceback points into it.
        code = compile("\n" * example.line + example.code, str(page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, scope)
        place, said = f"{page.name}, line {example.line + 1}", printed.getvalue()
        assert example.output in (None, said), f"the example of {place} prints\n{said}"
        for name, shape in shapes_of(example.code).items():
            came = list(scope[name].shape)
            assert came == shape, f"{name} in the example of {place} is {came}"
    return scope
