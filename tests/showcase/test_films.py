"""What the films of a showcase show: the lines under them make the same."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from digan.data.video import decode_frames
from digan.showcase.prediction import given_frames
from digan.showcase.sections import GAIN
from tests.command_line import Digan, command
from tests.showcase.conftest import HOSTILE, SMALL, Shown
from tests.showcase.reading import boxed, film_frames, group_of


@pytest.fixture
def digan(capsys) -> Digan:
    return command(capsys)


def commands_of(shown: Shown, section: str, group: int) -> list[list[str]]:
    lines = group_of(shown, section, group)["command"].split("\n")
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize(
    ("section", "group", "films"),
    [
        ("main", 1, (1,)),
        ("long", 2, (1,)),
        ("time-interpolation", 1, (2,)),
        ("time-extrapolation", 1, (1,)),
        ("time-extrapolation", 2, (1,)),
        ("diverse-motion", 2, (1, 2, 3)),
        ("space-interpolation", 1, (1, 2, 3, 4)),
        ("space-interpolation", 2, (2,)),
        ("space-extrapolation", 1, (2,)),
        ("beyond", 3, (1,)),
        ("beyond", 4, (2,)),
    ],
)
def test_the_line_under_it_makes_the_same(shown, digan, tmp_path, section, group, films):
    """The command that the page names gives the same frames, films beside one another."""
    words = commands_of(shown, section, group)[0]
    said = digan(*words[1:], "--outdir", tmp_path)
    assert said.status == 0, said.err
    (path,) = map(Path, said.out.split("\n")[:-1])
    made = np.stack([frame.image for frame in decode_frames(path)]).astype(int)
    expected = np.concatenate([film_frames(shown, section, group, n) for n in films], axis=2)
    assert made.shape == expected.shape
    # Joined or alone, a film is the same but for its encoder's rounding.
    apart = np.abs(made - expected.astype(int))
    assert apart.mean() < 2.5
    assert np.quantile(apart, 0.99) <= 12


def test_classes_are_rows(shown, digan, tmp_path):
    """A row a class, one below the other as the command's grid has them."""
    (words,) = commands_of(shown, "classes", 1)
    said = digan(*words[1:], "--outdir", tmp_path)
    made = np.stack([frame.image for frame in decode_frames(said.out.strip())]).astype(int)
    rows = [film_frames(shown, "classes", 1, n + 1) for n in range(len(HOSTILE))]
    expected = np.concatenate(rows, axis=1)
    assert made.shape == expected.shape
    assert np.abs(made - expected).mean() < 1.5
    assert np.abs(rows[0].astype(int) - rows[3]).mean() > 10


def test_red_boxes_mark_what_is_extrapolated(shown):
    """A frame has a red border just where its time is outside 0 to 1."""
    for group in (1, 2):
        frames = film_frames(shown, "time-extrapolation", group).astype(int)
        times = np.array(group_of(shown, "time-extrapolation", group)["times"])
        outside = (times < -1e-6) | (times > 1 + 1e-6)
        assert boxed(frames, SMALL.size).tolist() == outside.tolist()
        assert 0 < outside.sum() < len(outside)


def test_wider_frames_hold_the_training_square(shown):
    """Inside the red box of the zoomed-out film is the film as trained."""
    plain = film_frames(shown, "space-extrapolation", 1, 1).astype(int)
    wide = film_frames(shown, "space-extrapolation", 1, 2).astype(int)
    size = SMALL.size
    edge = (wide.shape[1] // 2 - size) // 2
    inner = wide[:, edge : edge + size, edge : edge + size]
    # The outermost pixels share colour with the red box in yuv420p.
    assert np.abs(inner - plain[:, :size, :size])[:, 4:-4, 4:-4].mean() < 1.5
    line = wide[:, edge - 1, edge : edge + size].mean(axis=(0, 1))
    assert line[0] - line[1:].max() > 90


def test_difference_is_of_the_two(shown):
    """Black where the videos agree, as at time 0; brighter where they do not."""
    one, two, apart = (film_frames(shown, "diverse-motion", 1, n).astype(int) for n in (1, 2, 3))
    expected = np.clip(GAIN * np.abs(one - two).mean(axis=-1), 0, 255)
    assert np.abs(apart.mean(axis=-1) - expected).mean() < 2 * GAIN  # of two encodings
    assert apart[0].mean() < 2 < apart[-1].mean()


def test_given_frames_are_few_and_inside():
    """Both ends and every gap are left to predict."""
    assert given_frames(16) == [3, 6, 9, 12]
    for count in range(8, 200):
        given = given_frames(count)
        assert given[0] > 0
        assert given[-1] < count - 1
        assert len(given) >= 2
        assert np.diff(given).min() >= 2


def test_only_given_frames_are_shown_as_given(shown):
    """The others are grey; the model's are boxed just where nothing was given."""
    given, _, found = (film_frames(shown, "prediction", 1, n).astype(int) for n in (1, 2, 3))
    grey = [i for i in range(16) if given[i].std() < 2]
    assert grey == [i for i in range(16) if i not in given_frames(16)]
    assert np.flatnonzero(boxed(found, SMALL.size)).tolist() == grey
    assert "PSNR of seed 8: given frames" in group_of(shown, "prediction", 1)["measured"]
