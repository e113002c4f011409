"""Kinds of arguments for argparse: numbers with a least value, lists of known names.

Each is made for `type=` of `add_argument`; what it refuses becomes argparse's one-line error.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence


def at_least(least: float, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """Numbers of `kind`, none below `least`.

    Raises:
        argparse.ArgumentTypeError: by what it returns, for a smaller number or for none.
    """

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(least - 1)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text!r}")
        return value

    return parse


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Names of `known` between commas, one or more.

    Raises:
        argparse.ArgumentTypeError: by what it returns, for an unknown name, with the nearest
            known one, or for none.
    """

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in text.split(",") if part.strip())
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f", did you mean {near[0]!r}?" if near else ""
                raise argparse.ArgumentTypeError(
                    f"must be of {','.join(known)}, got {name!r}{hint}"
                )
        if not names:
            raise argparse.ArgumentTypeError(f"must be of {','.join(known)}, got nothing")
        return names

    return parse


def settings_of(prefix: str) -> Callable[[str], tuple[str, ...]]:
    """One variable of the environment and its values, `NAME=A,B`: one `NAME=VALUE` a value.

    Raises:
        argparse.ArgumentTypeError: by what it returns, for another name or fewer than two values.
    """

    def parse(text: str) -> tuple[str, ...]:
        name, _, listed = text.partition("=")
        values = [value for value in listed.split(",") if value]
        if not name.startswith(prefix) or len(values) < 2:
            raise argparse.ArgumentTypeError(f"must be {prefix}NAME=A,B, got {text!r}")
        return tuple(f"{name}={value}" for value in values)

    return parse
