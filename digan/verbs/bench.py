"""`digan bench`."""

from __future__ import annotations


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    from digan.bench.command import run as run_command

    return run_command(arguments)
