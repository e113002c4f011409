"""Tables and help texts are made from the program, so that they cannot go stale."""

from __future__ import annotations

import dataclasses

import pytest

from digan.cli import VERBS
from digan.config import PRESETS, DiscriminatorConfig, GeneratorConfig, TrainConfig
from docs.settings_tables import preset_rows, settings_rows, shown
from docs.verb_help import WIDTH, help_of


@pytest.mark.parametrize("kind", [TrainConfig, GeneratorConfig, DiscriminatorConfig])
def test_every_setting_has_a_row_with_a_meaning(kind):
    rows = settings_rows(kind)
    trees = {"generator", "discriminator"}
    names = [f.name.replace("_", "-") for f in dataclasses.fields(kind) if f.name not in trees]
    assert [flag.split(",")[0] for flag, _, _ in rows] == [f"--{name}" for name in names]
    assert all(meaning.endswith(".") for _, _, meaning in rows)


def test_values_are_shown_as_a_user_writes_them():
    assert [shown(v) for v in (True, None, 25000.0, 0.0025, (), ("a", "b"), "auto")] == [
        "on", "None", "25000", "0.0025", "empty", "a, b", "auto"
    ]  # fmt: skip
    assert ["--mirror, --no-mirror", "on"] in [row[:2] for row in settings_rows(TrainConfig)]
    assert settings_rows(GeneratorConfig, "generator.")[0][0] == "--generator.resolution"


def test_presets_show_what_differs():
    rows = {row[0]: row[1:] for row in preset_rows()}
    assert rows["--batch"] == [str(config.batch) for config in PRESETS.values()]
    assert rows["--discriminator.channel-max"] == ["512", "256", "64"]
    assert "--lr" not in rows
    assert "--preset" not in rows


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_fits_the_page(verb):
    text = help_of(verb)
    assert text.startswith(f"usage: digan {verb} ")
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "--help" in text


def test_a_verb_without_help_fails_the_build():
    with pytest.raises(RuntimeError, match="no verb 'nonsense'"):
        help_of("nonsense")
