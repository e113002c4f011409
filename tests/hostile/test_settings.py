"""Settings of any kind, and command lines of any words."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import digan.showcase.make
from digan.cli import main
from digan.config import PRESETS, TrainConfig, from_dict, to_dict
from digan.errors import DiganError
from digan.formats import MOST_VALUES, from_json, from_yaml
from digan.verbs.train import defaults
from tests.hostile.strategies import any_values, changed, damages, rounds, to_bytes, yaml_texts
from tests.hostile.verdict import in_memory, in_time, refused_or_read
from tests.tiny_runs import network_file, tiny_network, tiny_store

BASE = to_dict(PRESETS["tiny"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, with a store and a network, below another of its own."""
    folder = tmp_path_factory.mktemp("around") / "above" / "here"
    folder.mkdir(parents=True)
    tiny_store(folder, "store")
    network_file(folder / "net.safetensors", tiny_network())
    with contextlib.chdir(folder):
        yield folder


@rounds(100)
@given(values=changed(BASE))
def test_settings_of_any_kind(values):
    refused_or_read(lambda: from_dict(TrainConfig, values))


def as_yaml(values: object) -> bytes:
    return to_bytes(yaml.safe_dump(values, allow_unicode=True))


@rounds(60)
@given(
    content=st.one_of(
        st.tuples(changed(BASE).map(as_yaml), damages).map(lambda pair: pair[1](pair[0])),
        any_values.map(as_yaml),
        yaml_texts.map(to_bytes),
        st.binary(max_size=100),
    )
)
def test_files_of_settings(place, content):
    path = place / "config.yaml"
    path.write_bytes(content)
    refused_or_read(lambda: defaults(["--config", str(path)]))


@rounds(60)
@given(text=st.one_of(yaml_texts, any_values.map(yaml.safe_dump), st.text(max_size=50)))
def test_yaml_is_a_value_or_one_kind_of_error(text):
    value, complaint = None, "-"
    with in_time():
        try:
            value = from_yaml(text)
        except ValueError as error:
            complaint = str(error)
    assert complaint
    assert "\n" not in complaint
    assert len(str(value)) < 100 * MOST_VALUES  # what it stands for is bounded


def test_yaml_is_what_safe_load_reads():
    texts = ["", "a: 1", "a: &x [1, 2]\nb: *x\n", "a: {<<: {b: 1}, c: 2}", "- 1\n- 2.5\n- ~", "x"]
    for text in (*texts, yaml.safe_dump(BASE)):
        assert from_yaml(text) == yaml.safe_load(text)
    assert from_json(json.dumps(BASE)) == BASE


def test_a_few_lines_that_stand_for_a_billion_values():
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, now in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{now}: &{now} [{', '.join([f'*{before}'] * 9)}]\n"
    with in_memory(50), pytest.raises(ValueError, match="more than 100000 values"):
        from_yaml(text)


# ---------------------------------------------------------------- command lines

VERBS = (
    "prepare", "train --dry-run", "generate", "evaluate", "inspect", "invert", "showcase", "import",
    "data check", "data", "watch --once", "frobnicate", "--",
)  # fmt: skip
FLAGS = (
    "--network", "--seeds", "--frames", "--size", "--grid", "--kimg", "--batch", "--preset",
    "--resume", "--dry-run", "--debug=0", "--outdir", "--help=1", "-h1", "--metrics", "--class",
    "--format", "--t-end", "--t-start", "--zoom", "--trunc", "--codes", "--data", "--fakes",
    "--page", "--every", "--config", "--init", "--out", "--dataset", "--resolution", "--fps",
    "--discriminators", "--once", "--shard", "--stride", "--long", "--sections", "--sheet",
    "--clip-frames", "--which", "--motion-seeds", "--chunk", "--time-density", "--precision",
)  # fmt: skip
VALUES = (
    "--", "0", "1", "-1", "1e9", "nan", "0-", "5-2", "0-99999999999999", "a b", "é\u0301", "\x00",
    "", "*", "..", ".", "net.safetensors", "store", "store/store.json", "tiny", "fp32", "bf16",
    "fvd2048_16f", "fd-random3d", "all", "exe", "a" * 5000, "/dev/null/x", "9" * 5000, "1x1",
    "99999x99999", "\x1b[31m", "a\nb", "inf", "1e-320", "1/9", "ucf101", "32", "mp4,png", "\udcff",
)  # fmt: skip
command_lines = st.builds(
    lambda verb, words: [*verb.split(), *words],
    st.sampled_from(VERBS),
    st.lists(
        st.one_of(st.sampled_from(FLAGS), st.sampled_from(VALUES), st.text(max_size=6)),
        max_size=6,
    ),
)
# Whole command lines with one value of theirs changed come further.
LIKELY = (
    "generate --network net.safetensors --outdir out --seeds 0 --frames 2 --grid 1x1 --zoom 1 "
    "--trunc 1 --fps 8 --t-start 0 --t-end 1 --format png --chunk 4",
    "data check store --clip-frames 4 --sheet sheet.png",
    "inspect --network net.safetensors --outdir out --seeds 0",
    "train --dry-run store --preset tiny --batch 8 --kimg 1 --outdir runs --resume auto --init "
    "net.safetensors",
    "showcase --network net.safetensors --out out --seeds 0-3 --size 32 --long 10",
    "evaluate --network net.safetensors --data store --metrics fd-random3d --outdir out",
    "prepare store out --resolution 32 --shard 1/1 --stride 1 --workers 1",
    "import net.safetensors --out out.safetensors --class-names a,b --fps 8",
    "watch . --once --every 1 --page page.html",
    "invert --network net.safetensors store/store.json --outdir out --frames 2 --start 0",
)


@st.composite
def likely_lines(draw: st.DrawFn) -> list[str]:
    words = draw(st.sampled_from(LIKELY)).split()
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(1, len(words) - 1))
        words[place] = draw(st.one_of(st.sampled_from(VALUES), st.text(max_size=6)))
    return words


def stop(*_: object, **__: object) -> None:
    raise DiganError("this is as far as the test goes")


@rounds(100)
@given(words=st.one_of(command_lines, likely_lines()))
def test_command_lines(place, words):
    """Each ends well, or with a status of 1 or 2 and a message without a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(digan.showcase.make, "make_section", stop)
        try:
            with contextlib.redirect_stderr(err), in_time(20):
                status = main(words)
        except SystemExit as error:
            status = error.code
    assert "Traceback" not in err.getvalue() + out.getvalue()
    assert status in (0, 1, 2)
    assert status == 0 or err.getvalue() + out.getvalue()
