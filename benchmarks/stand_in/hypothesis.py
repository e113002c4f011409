"""A stand-in for hypothesis on a machine without it: the files of the GPU tests then import.

`benchmarks/gpu_suite.sh` puts this folder on PYTHONPATH only where hypothesis is missing. It
runs the tests marked `gpu`, none of which draws its cases: property tests run on the CPU. One
that is run nevertheless fails here, and is not skipped.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest


class _Anything:
    """Whatever is asked of it, itself: strategies are built and never drawn from."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __or__(self, other: Any) -> Any:
        return self


class settings:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, test: Any) -> Any:
        return test

    @staticmethod
    def register_profile(*args: Any, **kwargs: Any) -> None:
        pass

    @staticmethod
    def load_profile(name: str) -> None:
        pass


def given(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """The test without the arguments that would be drawn, so that its other marks still fit."""

    def replace(test: Any) -> Any:
        def not_drawn(*_: Any, **__: Any) -> None:
            pytest.fail("hypothesis is not installed, so no case was drawn", pytrace=False)

        signature = inspect.signature(test)
        left = [p for name, p in signature.parameters.items() if name not in kwargs]
        left = left[: len(left) - len(args)]
        functools.update_wrapper(not_drawn, test)
        not_drawn.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return not_drawn

    return replace


def _same(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda test: test


example = note = seed = _same
assume = bool
strategies: Any = _Anything()
HealthCheck: Any = _Anything()
Phase: Any = _Anything()
sys.modules["hypothesis.strategies"] = strategies


def is_hypothesis_test(test: Any) -> bool:
    return False
