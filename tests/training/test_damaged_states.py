"""States that are truncated, changed, of others, or hostile, and what a run goes on from."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from digan.cli import main
from digan.errors import DiganError
from digan.training import checkpoint
from digan.training.checkpoint import LATEST, PREVIOUS
from digan.training.loop import train
from tests.training.continued import CONFIG, command, complete, state_differences, state_of

pytestmark = pytest.mark.usefixtures("few_samples")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_truncated_state_falls_back_to_the_one_before(store, stopped, unbroken, capsys):
    truncate(stopped / LATEST)
    assert complete(store, stopped.parent, CONFIG, "--resume", "auto") == stopped
    err = capsys.readouterr().err
    assert f"{stopped / LATEST} is damaged" in err
    assert f"continuing from {PREVIOUS}" in err
    assert "continues at 0.032 of 0.048 kimg" in err
    assert state_differences(stopped, unbroken) == []


def test_a_flipped_bit_falls_back_to_the_state_before(store, stopped, unbroken, capsys):
    """In the numbers of a tensor, where nothing but a checksum can tell."""
    content = bytearray((stopped / LATEST).read_bytes())
    weights = state_of(stopped)["average"]["mapping.layers.0.weight"].numpy().tobytes()
    content[content.index(weights) + 5] ^= 1
    (stopped / LATEST).write_bytes(content)
    assert complete(store, stopped.parent, CONFIG, "--resume", "auto") == stopped
    err = capsys.readouterr().err
    assert re.search(rf"{LATEST} is damaged \(ValueError the checksum of .* is wrong\)", err)
    assert f"continuing from {PREVIOUS}" in err
    assert state_differences(stopped, unbroken) == []


def test_two_truncated_states_are_an_error(store, stopped, capsys):
    truncate(stopped / LATEST)
    truncate(stopped / PREVIOUS)
    before = sorted(path.name for path in stopped.iterdir())
    assert main(command(store, stopped.parent, CONFIG, "--resume", str(stopped))) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{PREVIOUS} is damaged" in err
    assert sorted(path.name for path in stopped.iterdir()) == before  # nothing is lost
    assert main(command(store, stopped.parent, CONFIG, "--resume", "auto")) == 1
    assert [path for path in stopped.parent.iterdir() if path.is_dir()] == [stopped]


def test_where_the_first_state_is_truncated_auto_starts_anew(store, stopped, unbroken, capsys):
    """A job that begins again by itself would otherwise end there each time."""
    truncate(stopped / LATEST)
    (stopped / PREVIOUS).unlink()
    assert main(command(store, stopped.parent, CONFIG, "--resume", str(stopped))) == 1
    assert "is damaged" in capsys.readouterr().err
    assert main(command(store, stopped.parent, CONFIG, "--resume", "auto")) == 0
    err = capsys.readouterr().err
    assert re.search(rf"WARNING: .*{LATEST} is damaged .*first state: a new run starts", err)
    _, new = sorted(path for path in stopped.parent.iterdir() if path.is_dir())
    assert new.name.startswith("00001-")
    assert state_differences(new, unbroken) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world\n", b"PK\x03\x04 and nothing", b"\x80\x02}q", b"\x30" * 9],
)
def test_bytes_that_are_no_state_are_named(tmp_path, content):
    (tmp_path / LATEST).write_bytes(content)
    with pytest.raises(DiganError, match=rf"{LATEST} is damaged"):
        checkpoint.read_state(tmp_path)


def test_states_of_others_are_named(tmp_path):
    with pytest.raises(DiganError, match="has no training state to resume from"):
        checkpoint.read_state(tmp_path)
    for content, message in (
        ({"generator": {}}, "is no training state of digan"),
        ({"format": "digan-training-state", "format_version": 1}, "it has no average"),
    ):
        torch.save(content, tmp_path / LATEST)
        with pytest.raises(DiganError, match=message):
            checkpoint.read_state(tmp_path)


def test_states_of_a_newer_format_are_not_guessed_at(stopped):
    state = state_of(stopped)
    torch.save({**state, "format_version": 2}, stopped / LATEST)
    with pytest.raises(DiganError, match="has format version 2, this program reads up to 1"):
        checkpoint.read_state(stopped)


def test_a_state_that_runs_code_is_refused(tmp_path):
    torch.save({"format": "digan-training-state", "generator": os.system}, tmp_path / LATEST)
    with pytest.raises(DiganError, match="is damaged"):
        checkpoint.read_state(tmp_path)


def test_tensors_that_do_not_fit_are_an_error(store, stopped):
    state = state_of(stopped)
    state["generator"]["w_avg"] = torch.zeros(3)
    torch.save(state, stopped / LATEST)
    with pytest.raises(DiganError, match=r"does not fit its own settings.*w_avg"):
        train(CONFIG, store, stopped.parent, resume=str(stopped), progress=False)
