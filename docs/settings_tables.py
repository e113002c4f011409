"""Tables of the configuration, made from its dataclasses, so that they cannot go stale.

settings-table:: digan.config.TrainConfig     every field: flag, default, meaning
presets-table::                               what each preset sets
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from itertools import pairwise
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from digan.config import PRESETS, TrainConfig


def meanings(kind: type) -> dict[str, str]:
    """The text below every field of a dataclass."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(kind)).body)
    found = {}
    for field, text in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def shown(value: Any) -> str:
    """A value as a command line or a YAML file would say it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)


def flag_of(name: str, value: Any) -> str:
    """The flag of a setting; a switch has two."""
    flag = name.replace("_", "-")
    return f"--{flag}, --no-{flag}" if isinstance(value, bool) else f"--{flag}"


def settings_rows(kind: type, prefix: str = "") -> list[list[str]]:
    """Flag, default and meaning of every field that is not a tree of its own."""
    texts, default = meanings(kind), kind()
    rows = []
    for field in dataclasses.fields(kind):
        value = getattr(default, field.name)
        if not dataclasses.is_dataclass(value):
            flag = flag_of(f"{prefix}{field.name}", value)
            rows.append([flag, shown(value), texts[field.name]])
    return rows


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values |= _flat(value, f"{prefix}{field.name}.")
        else:
            values[prefix + field.name] = value
    return values


def preset_rows() -> list[list[str]]:
    """Every setting that is not the same in all presets, and its value in each."""
    flat = {name: _flat(config) for name, config in PRESETS.items()}
    rows = []
    for name, value in _flat(TrainConfig()).items():
        values = [shown(config[name]) for config in flat.values()]
        if len(set(values)) > 1 and name != "preset":
            rows.append([flag_of(name, value), *values])
    return rows


def table(head: list[str], rows: list[list[str]], code: int, classes: list[str]) -> nodes.table:
    """A table whose first `code` columns are code."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]

    def row(cells: list[str], heading: bool) -> nodes.row:
        made = nodes.row()
        for column, cell in enumerate(cells):
            text = nodes.Text(cell)
            inline = nodes.literal("", "", text) if column < code and not heading else text
            made += nodes.entry("", nodes.paragraph("", "", inline))
        return made

    group += nodes.thead("", row(head, True))
    group += nodes.tbody("", *[row(cells, False) for cells in rows])
    return nodes.table("", group, classes=classes)


class SettingsTable(SphinxDirective):
    """The fields of one dataclass."""

    required_arguments = 1
    option_spec: ClassVar = {"prefix": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Makes the table."""
        module, _, name = self.arguments[0].rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        self.env.note_dependency(inspect.getsourcefile(kind))
        rows = settings_rows(kind, self.options.get("prefix", ""))
        return [table(["flag", "default", "meaning"], rows, 2, ["settings"])]


class PresetsTable(SphinxDirective):
    """The presets."""

    def run(self) -> list[nodes.Node]:
        """Makes the table."""
        self.env.note_dependency(inspect.getsourcefile(TrainConfig))
        return [table(["flag", *PRESETS], preset_rows(), len(PRESETS) + 1, ["presets"])]


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directives."""
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("presets-table", PresetsTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
