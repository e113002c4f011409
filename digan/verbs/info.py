"""`digan info`."""

from __future__ import annotations

import json
from dataclasses import dataclass

from digan.cli import parse


@dataclass(frozen=True)
class InfoArgs:
    """Print versions, devices, toolkit, and which path every op takes here.

    Examples:
        digan info
        digan info --json > info.json      # for a bug report
    """

    json: bool = False
    """Print JSON."""


def run(arguments: list[str]) -> int:
    """Runs the verb."""
    from digan.info import collect_info, format_info

    asked: InfoArgs = parse(InfoArgs, arguments, "info")
    info = collect_info()
    print(json.dumps(info, indent=2) if asked.json else format_info(info))
    return 0
