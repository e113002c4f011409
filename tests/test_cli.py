"""The command line: help, suggestions, exit statuses, settings, and the verbs at work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from digan import __version__
from digan.cli import VERBS
from digan.config import PRESETS
from tests.command_line import Digan, command
from tests.conftest import ROOT
from tests.tiny_runs import settings_file, tiny_config, tiny_store


@pytest.fixture
def digan(capsys: pytest.CaptureFixture[str]) -> Digan:
    return command(capsys)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tiny_store(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def settings(tmp_path) -> Path:
    return settings_file(tmp_path / "settings.yaml", tiny_config(kimg=0.004))


def in_new_process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------- help


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from digan.cli import main; status = main(['--help']); "
        "heavy = {'torch', 'tyro', 'numpy', 'av', 'scipy', 'PIL', 'yaml'} & set(sys.modules); "
        "print(sorted(heavy), file=sys.stderr); raise SystemExit(status)"
    )
    done = in_new_process(sys.executable, "-c", code)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    for name in VERBS:
        assert f"\n  {name} " in done.stdout


def test_module_runs_the_command():
    done = in_new_process(sys.executable, "-m", "digan", "--version")
    assert (done.returncode, done.stdout) == (0, f"digan {__version__}\n")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_overview_lists_the_verbs(digan, words):
    said = digan(*words)
    assert said.status == 0
    assert all(verb.summary in said.out for verb in VERBS.values())


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_with_examples(digan, verb):
    said = digan(*verb.split(), "--help")
    assert said.status == 0
    assert f"usage: digan {verb}" in said.out
    examples = said.out.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(line.startswith(f"    digan {verb}") for line in examples)
    assert "--help" in said.out


def test_flags_are_kebab_case_and_cover_the_configuration(digan):
    said = digan("train", "--help").out
    for flag in (
        "--clip-frames", "--batch-gpu", "--kimg", "--precision", "--cond", "--preset", "--resume",
        "--seed", "--outdir", "--snap", "--metrics", "--dry-run", "--gamma", "--lr", "--mirror",
        "--no-mirror", "--ema-kimg", "--deterministic", "--init", "--fused-kernels",
        "--no-fused-kernels", "--generator.latent-dim", "--discriminator.channel-max",
    ):  # fmt: skip
        assert flag in said, flag
    said = digan("generate", "--help").out
    for flag in (
        "--network", "--seeds", "--motion-seeds", "--class", "--frames", "--t-start", "--t-end",
        "--time-density", "--fps", "--size", "--zoom", "--trunc", "--grid", "--format", "--outdir",
    ):  # fmt: skip
        assert flag in said, flag


# ---------------------------------------------------------------- slips


@pytest.mark.parametrize(
    ("words", "near"),
    [("trian store", "train"), ("genrate", "generate"), ("dmeo", "demo"), ("dat check", "data")],
)
def test_a_misspelt_verb_is_told_the_near_one(digan, words, near):
    said = digan(*words.split())
    assert said.status == 2
    assert said.error.startswith(f"there is no verb '{words.split()[0]}', did you mean '{near}'?")


def test_other_wrong_verbs(digan):
    assert digan("quux").error == "there is no verb 'quux' (digan --help lists them)"
    for words in (["data"], ["data", "chekc"]):
        said = digan(*words)
        assert (said.status, said.error) == (2, "digan data needs one of: check")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("train x --clip-frame 4", "--clip-frames"),
        ("train x --bacth 4", "--batch"),
        ("generate --netwrok x", "--network"),
        ("prepare a b --resolutoin 64", "--resolution"),
        ("info --jsno", "--json"),
    ],
)
def test_a_misspelt_flag_is_told_the_near_one(digan, words, near):
    said = digan(*words.split())
    assert said.status == 2
    assert words.split()[-2 if near != "--json" else -1] in said.err
    assert near in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("flag", ["--fused-kernel", "--no-fused-kernals"])
def test_the_short_forms_have_near_ones_too(digan, flag):
    said = digan("train", "x", flag)
    assert said.status == 2
    assert "did you mean '--" in said.error


@pytest.mark.parametrize("words", ["train", "generate", "prepare x", "train --network"])
def test_missing_arguments_are_wrong_usage(digan, words):
    said = digan(*words.split())
    assert said.status == 2
    assert said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "words", ["train x --batch many", "train x --preset tinny", "generate --network x --zoom wide"]
)
def test_values_of_a_wrong_kind_are_wrong_usage(digan, words):
    said = digan(*words.split())
    assert said.status == 2
    assert words.split()[-1] in said.err


def test_debug_shows_the_traceback(digan, tmp_path, monkeypatch):
    said = digan("train", tmp_path / "nowhere")
    assert said.status == 1
    assert said.err.count("\n") == 1
    for words in (["--debug", "train"], ["train", "--debug"]):
        said = digan(*words, tmp_path / "nowhere")
        assert said.status == 1
        assert "Traceback" in said.err
        assert "DiganError" in said.err
    monkeypatch.setenv("DIGAN_DEBUG", "1")
    assert "Traceback" in digan("train", tmp_path / "nowhere").err


# ---------------------------------------------------------------- settings


def dry(digan: Digan, *words: object) -> dict[str, object]:
    """The resolved settings of a dry run."""
    said = digan("train", *words, "--dry-run")
    assert said.status == 0, said.err
    values = yaml.safe_load(said.out)
    assert isinstance(values, dict)
    return values


def test_settings_come_from_preset_then_file_then_flags(digan, store, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("preset: tiny\nclip_frames: 4\ngamma: 2\ngenerator: {rank: 7}\n")
    tiny = dry(digan, store, "--preset", "tiny", "--clip-frames", "4")
    own = dry(digan, store, "--config", path)
    assert (tiny["gamma"], own["gamma"]) == (PRESETS["tiny"].gamma, 2.0)
    assert own["batch"] == tiny["batch"] == PRESETS["tiny"].batch  # the file names the preset
    assert own["generator"] == {**tiny["generator"], "rank": 7}  # the rest of the group stays
    over = dry(digan, store, "--config", path, "--gamma", "3", "--generator.rank", "5")
    assert over == {**own, "gamma": 3.0, "generator": {**own["generator"], "rank": 5}}
    # A preset on the command line stands in for the one that the file names.
    named = dry(digan, store, "--preset=fast", f"--config={path}")
    assert (named["preset"], named["gamma"], named["batch"]) == ("fast", 2.0, PRESETS["fast"].batch)


def test_a_dry_run_says_what_a_run_would_be_and_writes_nothing(
    digan, store, settings, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    said = digan("train", store, "--config", settings, "--dry-run")
    values = yaml.safe_load(said.out)
    assert values["resolution"] == values["generator"]["resolution"] == 32
    assert "# generator: 0.0" in said.out
    assert "M parameters" in said.out
    assert "6 videos, 51 frames of 32 x 32" in said.out
    assert sorted(tmp_path.iterdir()) == before
    # What it prints is a file for --config.
    (tmp_path / "again.yaml").write_text(said.out)
    assert dry(digan, store, "--config", tmp_path / "again.yaml") == values


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gama: 1", '"gama"'),
        ("generator: {ranks: 3}", '"ranks"'),
        ("batch: many", "batch"),
        ("- 1", "must hold settings by name, got list"),
        ("a: [", "is no YAML"),
        ("", "must hold settings by name, got NoneType"),
    ],
)
def test_settings_files_with_mistakes(digan, store, tmp_path, text, sentence):
    (path := tmp_path / "bad.yaml").write_text(text)
    said = digan("train", store, "--config", path, "--dry-run")
    assert said.status == 1
    assert sentence in said.error


def test_a_settings_file_that_is_not_there(digan, store, tmp_path):
    said = digan("train", store, "--config", tmp_path / "gone.yaml")
    assert said.status == 1
    assert "gone.yaml cannot be read: No such file or directory" in said.error


# ---------------------------------------------------------------- the verbs at work


def test_from_videos_to_a_video(digan, settings, tmp_path, store):
    """prepare, check, train, generate, as a user types them."""
    own = tmp_path / "store"
    said = digan("prepare", store.parent / "videos", own, "--resolution", 32, "--workers", 1)
    assert said.status == 0
    assert "6 videos, 51 frames" in said.out
    said = digan("data", "check", own, "--clip-frames", 4, "--sheet", tmp_path / "sheet.png")
    assert said.status == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    said = digan("train", own, "--config", settings, "--outdir", tmp_path / "runs")
    assert said.status == 0
    run = Path(said.out.strip())
    assert run.parent == tmp_path / "runs"
    said = digan("generate", "--network", run, "--seeds", "0-1", "--outdir", tmp_path / "out")
    assert said.status == 0
    written = [Path(line) for line in said.out.splitlines()]
    assert written == [tmp_path / "out" / f"seed000{n}.mp4" for n in (0, 1)]
    assert all(path.stat().st_size > 500 for path in written)


def test_data_check_fails_on_damage(digan, store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    shard = next(path for path in sorted(copy.iterdir()) if path.stat().st_size > 50_000)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    assert digan("data", "check", copy).status == 1


def test_info_is_json_on_request(digan):
    said = digan("info", "--json")
    assert said.status == 0
    assert json.loads(said.out)
    assert digan("info").status == 0
