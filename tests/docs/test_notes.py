"""The pages say what is so: their Python runs, their command lines are understood."""

from __future__ import annotations

import importlib
import os

import pytest

from digan import cli
from digan.bench.command import parser as bench_parser
from tests.conftest import ROOT
from tests.page_examples import commands_of, examples_of, run_examples

PAGES = sorted((ROOT / "docs").rglob("*.md"))
WITH_PYTHON = [page for page in PAGES if examples_of(page.read_text(encoding="utf-8"))]
WITH_COMMANDS = [
    page for page in [ROOT / "README.md", *PAGES] if commands_of(page.read_text(encoding="utf-8"))
]


class Understood(Exception):
    """The arguments of a verb were parsed."""


def test_there_is_something_to_run():
    names = {page.stem for page in WITH_PYTHON}
    assert {"getting_started", "model", "grids", "order", "ops", "data", "evaluation"} <= names


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_python_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_examples(page)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_command_lines_are_understood(page, monkeypatch):
    parse = cli.parse

    def parse_and_stop(*arguments, **options):
        raise Understood(parse(*arguments, **options))

    for words in commands_of(page.read_text(encoding="utf-8")):
        verb, rest = cli.choose_verb(words[1:])
        if verb == "bench":  # its flags are argparse's: it runs where tyro is not installed
            bench_parser("digan bench").parse_args(rest)
            continue
        module = importlib.import_module(f"digan.verbs.{cli.VERBS[verb].module}")
        monkeypatch.setattr(module, "parse", parse_and_stop)
        with pytest.raises(Understood):
            module.run([word for word in rest if word not in (">", "&&")])


def test_no_page_is_left_out_of_the_contents():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        name = str(page.relative_to(ROOT / "docs").with_suffix("")).replace(os.sep, "/")
        assert name == "index" or f"\n{name}\n" in text, f"{name} is not in docs/index.md"


def test_pictures_are_there():
    for name in ("demo.gif", "demo-sheet.png"):
        assert (ROOT / "docs" / "images" / name).stat().st_size > 0
        assert any(name in page.read_text(encoding="utf-8") for page in PAGES)
