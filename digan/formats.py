"""JSON and YAML from files that nobody vouches for: a value, or one kind of error."""

from __future__ import annotations

import json
from typing import Any

MOST_VALUES = 100_000
"""Values of a YAML text, each as often as aliases repeat it."""


def from_json(text: str | bytes) -> Any:
    """`json.loads`, but with one kind of error.

    Raises:
        ValueError: no JSON, no UTF-8, or nested too deeply; the message has one line.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def from_yaml(text: str) -> Any:
    """`yaml.safe_load`, but with one kind of error, and for texts of bounded size.

    A few lines of aliases can stand for more values than a memory holds, so they are counted
    before any is made.

    Raises:
        ValueError: no YAML, a value that its tag does not allow, more than `MOST_VALUES`, one
            that holds itself, or nested too deeply; the message has one line.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_VALUES:
            raise ValueError(f"it stands for more than {MOST_VALUES} values")
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except Exception as error:  # a tag on a value that is none of it raises almost anything
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _count(node: Any, known: dict[int, float]) -> float:
    """Values below a node of YAML, itself included; infinite if it holds itself."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = float("inf")  # while it is counted
    total = 1.0
    if not isinstance(node.value, str):
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                total += _count(part, known)
    known[id(node)] = total
    return total
