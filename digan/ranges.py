"""What users write for several numbers: 0-35, or 0,1,4-6. Ranges are inclusive."""

from __future__ import annotations

import re

from digan.errors import DiganError

MOST = 1_000_000


def parse_seeds(text: str, what: str = "seeds") -> list[int]:
    """The numbers of a list of ranges, in order.

    Raises:
        DiganError: not of that form, reversed, or more than a million numbers.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", part)
        if match is None:
            raise DiganError(f"{what} must look like 0-35 or 0,1,4-6, got {_short(text)}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise DiganError(f"{what} must not be reversed, got {_short(part.strip())}")
        if last - first >= MOST or len(numbers) >= MOST:
            raise DiganError(f"{what} must be at most {MOST:,} numbers, got {_short(text)}")
        numbers += range(first, last + 1)
    return numbers


def parse_grid(text: str) -> tuple[int, int]:
    """Columns and rows of a grid written 6x4.

    Raises:
        DiganError: not of that form.
    """
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text.strip())
    if match is None or int(match[1]) < 1 or int(match[2]) < 1:
        raise DiganError(f"grid must be COLUMNSxROWS, as 6x4, got {_short(text)}")
    return int(match[1]), int(match[2])


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
