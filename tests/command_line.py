"""The `digan` command, run inside the tests' own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from digan.cli import main


class Said(NamedTuple):
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line of standard error, which must be an error without a traceback."""
        lines = self.err.splitlines()
        assert "Traceback" not in self.err
        assert lines[-1].startswith("digan: error: ")
        return lines[-1].removeprefix("digan: error: ")


Digan = Callable[..., Said]


def command(capsys: pytest.CaptureFixture[str]) -> Digan:
    """A function that runs `digan` with its arguments as words."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as end:  # tyro's own
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return run
