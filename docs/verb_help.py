"""The directive `verb-help`: a section for every verb with what its `--help` prints."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from digan.cli import VERBS, overview

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 84
_FRAME = ("╭", "│", "╰")


def help_of(verb: str) -> str:
    """What `digan VERB --help` prints, at most WIDTH columns wide.

    Raises:
        RuntimeError: the verb cannot print its help.
    """
    # In a process of its own: a verb may import what this build should not have.
    setting = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-m", "digan", *verb.split(), "--help"],
        cwd=ROOT, env=os.environ | setting, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"digan {verb} --help failed: {done.stderr.strip()}")
    lines = []
    for line in done.stdout.strip().splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        # Paragraphs of the description are one line each, for terminals of any width.
        framed = line.startswith(_FRAME)
        wrapped = textwrap.wrap(line, WIDTH, subsequent_indent=indent) or [""]
        lines += [line] if framed else wrapped
    return "\n".join(lines)


class VerbHelp(SphinxDirective):
    """Sections of all verbs."""

    def run(self) -> list[nodes.Node]:
        """Runs the verbs."""
        made: list[nodes.Node] = [nodes.literal_block("", overview(), language="text")]
        for verb, about in VERBS.items():
            name = "verb-" + verb.replace(" ", "-")
            section = nodes.section("", nodes.title("", f"digan {verb}"), ids=[name], names=[name])
            section += nodes.paragraph("", about.summary[0].upper() + about.summary[1:] + ".")
            section += nodes.literal_block("", help_of(verb), language="text")
            made.append(section)
        return made


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("verb-help", VerbHelp)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
