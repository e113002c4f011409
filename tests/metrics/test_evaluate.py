"""Whole metrics: against numpy by hand, cached, in classes, with little data, by the verb."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg

from digan.data.store import Store
from digan.errors import DiganError
from digan.files import file_sha256
from digan.metrics import (
    DetectorFile,
    Evaluator,
    FileFakes,
    FolderVideos,
    NetworkFakes,
    StoreVideos,
    VideoSet,
    frechet_distance,
    parse_protocol,
    polynomial_mmd,
)
from digan.metrics.fakes import to_levels
from digan.nn.snapshot import NetworkInfo
from tests.command_line import command
from tests.metrics.networks import BrokenI3D, StandInC3D, StandInI3D, made_clips, scripted
from tests.tiny_runs import CLASSES, network_file, tiny_network, tiny_store

digan = pytest.fixture(command)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store of 6 videos in 2 classes, stand-in detectors, a network with the same classes."""
    root = tmp_path_factory.mktemp("evaluate")
    tiny_store(root)
    scripted(root / "i3d.pt", StandInI3D())
    scripted(root / "c3d.pt", StandInC3D())
    network_file(root / "net.safetensors", tiny_network())
    network_file(root / "cond.safetensors", tiny_network(num_classes=2), classes=CLASSES)
    return root


@pytest.fixture(autouse=True)
def _no_files_from_outside(monkeypatch):
    monkeypatch.delenv("DIGAN_I3D_PATH", raising=False)
    monkeypatch.delenv("DIGAN_C3D_PATH", raising=False)


def evaluator(place, cache=None, **options) -> Evaluator:
    files = {"i3d": DetectorFile(place / "i3d.pt"), "c3d": DetectorFile(place / "c3d.pt")}
    videos = StoreVideos(Store(place / "skies"))
    return Evaluator(videos, files, cache, progress=False, **options)


def fakes(**options) -> NetworkFakes:
    network = tiny_network(**options)
    classes = CLASSES if options.get("num_classes") else ()
    info = NetworkInfo(network.config, clip_frames=5, fps=10.0, classes=classes)
    return NetworkFakes(network, info)


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def stand_in(clips: np.ndarray) -> np.ndarray:
    """The features of `StandInI3D` in plain numpy."""
    weight = StandInI3D().weight.double().numpy()
    x = clips.astype(np.float64).transpose(0, 4, 1, 2, 3) / 127.5 - 1
    n, c, t, h, w = x.shape
    pooled = x.reshape(n, c, 2, t // 2, 2, h // 2, 4, w // 4).mean(axis=(3, 5, 7))
    return np.tanh(pooled.reshape(n, -1) @ weight)


def write_npz(folder, clips):
    folder.mkdir()
    for number, clip in enumerate(clips):
        np.savez(folder / f"{number:04d}.npz", frames=clip)
    return folder


class TestByHand:
    @pytest.mark.parametrize(("name", "divisor"), [("fvd40_8f", 0), ("digan-fvd", 1)])
    def test_fvd_of_folders(self, place, tmp_path, name, divisor):
        """From files to the number, without a line of the package: numpy and scipy alone."""
        real, fake = made_clips(40, 16, seed=1), made_clips(40, 16, seed=2)
        real[..., 0] //= 2
        length = 8 if name == "fvd40_8f" else 16
        real, fake = real[:, :length], fake[:, :length]
        sets = [
            FolderVideos(write_npz(tmp_path / n, clips)) for n, clips in (("r", real), ("f", fake))
        ]
        judge = Evaluator(sets[0], {"i3d": DetectorFile(place / "i3d.pt")}, progress=False)
        protocol = parse_protocol(name).change(repeats=1)
        result = judge.evaluate(FileFakes(sets[1]), protocol)
        a, b = stand_in(real), stand_in(fake)
        means, covs = zip(*[(f.mean(0), np.cov(f.T, ddof=divisor)) for f in (a, b)], strict=True)
        root = linalg.sqrtm(covs[0] @ covs[1])
        expected = np.square(means[0] - means[1]).sum() + np.trace(
            covs[0] + covs[1] - 2 * root.real
        )
        assert expected > 0.01
        assert result.value == pytest.approx(expected, rel=1e-4)
        assert (result.n_real, result.n_fake) == (40, 40)

    def test_kvd_and_inception_score(self, place, tmp_path):
        clips = [made_clips(12, 16, seed=s) for s in (1, 2)]
        sets = [FolderVideos(write_npz(tmp_path / str(n), c)) for n, c in enumerate(clips)]
        files = {"i3d": DetectorFile(place / "i3d.pt"), "c3d": DetectorFile(place / "c3d.pt")}
        judge = Evaluator(sets[0], files, progress=False)
        judged = FileFakes(sets[1])
        kvd = judge.evaluate(judged, parse_protocol("kvd12_16f"))
        found = judge._fake_memory
        assert len(found) == 1
        fake = next(iter(found.values())).numpy()
        assert np.allclose(np.sort(fake, 0), np.sort(stand_in(clips[1]), 0), atol=1e-5)
        expected = polynomial_mmd(stand_in(clips[0]), stand_in(clips[1]))
        assert kvd.value == pytest.approx(expected, rel=1e-3)
        score = judge.evaluate(judged, parse_protocol("isv12_ucf"))
        x = clips[1].astype(np.float64).transpose(0, 4, 1, 2, 3) / 24
        pooled = x.reshape(12, 3, 16, 2, 8, 2, 8).mean(axis=(2, 4, 6)).reshape(12, 12)
        softmax = np.exp(pooled) / np.exp(pooled).sum(1, keepdims=True)
        assert len(score.values) == 10
        assert score.floor is None
        assert score.n_real == 0
        one = judge.evaluate(judged, replace(score.protocol, splits=1))
        marginal = softmax.mean(0)
        divergence = (softmax * np.log(softmax / marginal)).sum(1)
        assert one.value == pytest.approx(np.exp(divergence.mean()), rel=1e-5)


class TestResults:
    def test_the_line_holds_the_whole_protocol(self, place):
        protocol = parse_protocol("digan-fvd").change(videos=6, repeats=3)
        judge = evaluator(place)
        result = judge.evaluate(fakes(), replace(protocol, frames=4))
        line = json.loads(json.dumps(result.to_json(), allow_nan=False))
        assert line["metric"] == "digan-fvd"
        results = line["results"]
        assert len(results["values"]) == 3
        assert results["digan-fvd"] == pytest.approx(np.mean(results["values"]))
        assert results["deviation"] == pytest.approx(np.std(results["values"]))
        assert len(set(results["values"])) == 3
        assert results["floor"] > 0
        held = line["protocol"]
        assert set(protocol.to_json()) <= set(held)
        assert held["n_real_used"] == held["n_fake_used"] == 6
        assert held["detector_file"]["sha256"] == file_sha256(place / "i3d.pt")
        assert held["data"]["name"] == "skies"
        assert len(held["data"]["sha256"]) == 64
        assert set(held["versions"]) == {"digan", "torch", "numpy", "python"}
        assert "6 videos instead of 2048" in line["notes"]
        assert line["fakes"]["kind"] == "network"
        assert "± " in result.format()

    def test_repeats_exactly_and_by_any_batch(self, place):
        protocol = parse_protocol("fvd6_4f")
        first = evaluator(place).evaluate(fakes(), protocol)
        assert evaluator(place).evaluate(fakes(), protocol).values == first.values
        other = evaluator(place, batch=1, workers=1).evaluate(fakes(), protocol)
        assert other.value == pytest.approx(first.value, rel=1e-3)
        moved = evaluator(place).evaluate(fakes(), protocol.change(seed=9))
        assert moved.value != first.value

    def test_the_death_of_a_reading_process_is_one_line(self, place, monkeypatch):
        read = StoreVideos.read

        def die(self, *words):
            if multiprocessing.parent_process() is None:
                return read(self, *words)
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(StoreVideos, "read", die)
        named = r"^a process that decodes frames died .*memory"
        judge, short = evaluator(place, workers=1), parse_protocol("fvd6_4f")
        for measure in (judge.evaluate, judge.random3d):
            with pytest.raises(DiganError, match=named):
                measure(fakes(), short)

    def test_a_set_against_itself_and_the_floor(self, place):
        videos = StoreVideos(Store(place / "skies"))
        protocol = replace(parse_protocol("fvd6_8f"), clip_rule="start")
        result = evaluator(place).evaluate(FileFakes(videos), protocol)
        assert result.value <= 1e-9
        assert result.floor > 1e-3
        assert result.n_floor == 3

    def test_fewer_videos_and_short_ones_are_said(self, place):
        result = evaluator(place).evaluate(fakes(), parse_protocol("fvd40_9f"))
        assert (result.n_real, result.n_fake) == (3, 40)
        assert "3 real clips where 40 were asked for" in result.notes
        assert "3 real videos are shorter than 9 frames and left out" in result.notes
        videos = StoreVideos(Store(place / "skies"))
        result = evaluator(place).evaluate(FileFakes(videos), parse_protocol("fvd40_9f"))
        assert result.n_fake == 3
        assert "3 fakes where 40 were asked for" in result.notes
        assert result.to_json()["protocol"]["n_fake_used"] == 3
        with pytest.raises(DiganError, match=r"no video of 16 frames, .* 8 to 9 frames"):
            evaluator(place).evaluate(fakes(), parse_protocol("fvd40_16f"))

    def test_longer_clips_and_stride_of_a_network(self, place):
        seen = fakes().clips(parse_protocol("fvd2_12f"), 0, None, None, 2)
        whole = torch.cat(list(seen.batches))
        assert list(whole.shape) == [2, 12, 32, 32, 3]  # its training clip has 5 frames
        third = fakes().clips(parse_protocol("fvd2_12f_subsample3f"), 0, None, None, 1)
        assert torch.equal(torch.cat(list(third.batches)), whole[:, ::3])

    def test_rounding(self):
        x = torch.tensor([-2.0, -1.0, -0.999, 0.0, 0.0059, 1.0, 3.0])
        assert to_levels(x, "round").tolist() == [0, 0, 0, 128, 128, 255, 255]
        assert to_levels(x, "truncate").tolist() == [0, 0, 0, 127, 128, 255, 255]

    def test_classes(self, place):
        protocol = parse_protocol("fvd6_4f")
        judge = evaluator(place)
        network = fakes(num_classes=2)
        every = judge.evaluate(network, protocol)
        each = [judge.evaluate(network, protocol, label) for label in range(2)]
        assert [result.label for result in each] == ["dusk", "noon"]
        assert [result.n_real for result in each] == [3, 3]
        assert len({every.value, *(result.value for result in each)}) == 3
        assert "[noon]" in each[1].format()
        with pytest.raises(DiganError, match="needs a class-conditional network"):
            judge.evaluate(fakes(), protocol, 0)

    def test_a_new_network_is_measured_anew(self, place):
        judge, protocol = evaluator(place), parse_protocol("fvd6_4f")
        values = {judge.evaluate(fakes(seed=seed), protocol).value for seed in range(3)}
        assert len(values) == 3


class TestCache:
    def test_real_features_are_read_once(self, place, tmp_path, monkeypatch):
        protocol = parse_protocol("fvd6_4f")
        first = evaluator(place, tmp_path / "cache").evaluate(fakes(), protocol)
        files = sorted((tmp_path / "cache").iterdir())
        assert len(files) == 1
        again = evaluator(place, tmp_path / "cache")
        monkeypatch.setattr("digan.metrics.evaluate.clip_batches", None)
        assert again.evaluate(fakes(), protocol).values == first.values

    def test_what_differs_is_kept_apart_and_damage_is_mended(self, place, tmp_path):
        cache = tmp_path / "cache"
        protocol = parse_protocol("fvd6_4f")
        first = evaluator(place, cache).evaluate(fakes(), protocol)
        for other in (protocol.change(seed=3), parse_protocol("fvd6_8f_subsample2f")):
            evaluator(place, cache).evaluate(fakes(), other)
        assert len(list(cache.iterdir())) == 3
        for file in cache.iterdir():
            file.write_bytes(file.read_bytes()[:100])
        assert evaluator(place, cache).evaluate(fakes(), protocol).values == first.values

    def test_small_data_are_read_once_for_all_repeats(self, place, tmp_path, monkeypatch):
        protocol = replace(parse_protocol("digan-fvd").change(videos=99, repeats=4), frames=4)
        judge = evaluator(place, tmp_path / "cache")
        videos = StoreVideos(Store(place / "skies"))
        seen = []
        extract = judge._extract
        monkeypatch.setattr(judge, "_extract", lambda *a: seen.append(a[4]) or extract(*a))
        result = judge.evaluate(FileFakes(videos), protocol)
        assert seen == ["real", "fake"]
        assert result.values == pytest.approx([result.value] * 4, rel=1e-9)
        assert "every repeat has the same clips, so the deviation says nothing" in result.notes
        assert result.n_real == 33

    def test_kvd_shares_the_features_of_fvd(self, place, tmp_path, monkeypatch):
        judge, network = evaluator(place, tmp_path / "cache"), fakes()
        judge.evaluate(network, parse_protocol("fvd6_4f"))
        monkeypatch.setattr(judge, "_extract", None)
        judge.evaluate(network, parse_protocol("kvd6_4f"))
        assert len(list((tmp_path / "cache").iterdir())) == 1


class TestBadNumbers:
    def test_nan_features_are_refused(self, place, tmp_path):
        clips = made_clips(6)
        clips[4] = 0
        videos = FolderVideos(write_npz(tmp_path / "f", clips))
        file = scripted(tmp_path / "broken.pt", BrokenI3D())
        judge = Evaluator(videos, {"i3d": DetectorFile(file)}, progress=False)
        with pytest.raises(DiganError, match="NaN or infinity for real video number"):
            judge.evaluate(FileFakes(videos), parse_protocol("fvd6_16f"))

    def test_distance_needs_real_videos(self, place):
        judge = Evaluator(None, {"i3d": DetectorFile(place / "i3d.pt")}, progress=False)
        with pytest.raises(DiganError, match="fvd6_4f needs real videos"):
            judge.evaluate(fakes(), parse_protocol("fvd6_4f"))


class TestVerb:
    def test_network_against_data(self, place, tmp_path, digan):
        said = digan("evaluate", "--network", place / "net.safetensors", "--data", place / "skies",
                     "--metrics", "fvd6_4f,kvd6_4f,isv6_ucf", "--i3d", place / "i3d.pt",
                     "--c3d", place / "c3d.pt", "--outdir", tmp_path, "--workers", 0,
                     "--cache", tmp_path / "cache")  # fmt: skip
        assert said.status == 0, said.err
        assert [line.split()[0] for line in said.out.splitlines()] == ["fvd6_4f", "kvd6_4f",
                                                                       "isv6_ucf"]  # fmt: skip
        for name in ("fvd6_4f", "kvd6_4f", "isv6_ucf"):
            rows = rows_of(tmp_path / f"metric-{name}.jsonl")
            assert [row["metric"] for row in rows] == [name]
            assert rows[0]["fakes"]["sha256"] == file_sha256(place / "net.safetensors")
            # As the rows of a run, in whose folder they may lie.
            assert (rows[0]["kimg"], rows[0]["snapshot"]) == (1.0, "net.safetensors")

    def test_folder_against_folder_and_classes(self, place, tmp_path, digan):
        made = digan(
            "generate",
            "--network",
            place / "cond.safetensors",
            "--seeds",
            "0-5",
            "--class",
            "all",
            "--format",
            "npz",
            "--outdir",
            tmp_path / "out",
        )
        assert made.status == 0
        common = ("--data", place / "skies", "--i3d", place / "i3d.pt", "--outdir", tmp_path,
                  "--workers", 0, "--recompute")  # fmt: skip
        said = digan("evaluate", "--fakes", tmp_path / "out", *common, "--metrics", "fvd12_4f")
        assert said.status == 0, said.err
        assert "12 fakes, 6 real" in said.out
        said = digan("evaluate", "--network", place / "cond.safetensors", *common, "--metrics",
                     "fvd3_4f", "--per-class")  # fmt: skip
        assert [line.split()[1] for line in said.out.splitlines()][1:] == ["[dusk]", "[noon]"]
        rows = rows_of(tmp_path / "metric-fvd3_4f.jsonl")
        assert [row["protocol"]["class"] for row in rows] == [None, "dusk", "noon"]

    def test_fd_random3d(self, place, tmp_path, digan):
        said = digan(
            "evaluate",
            "--fakes",
            place / "skies",
            "--data",
            place / "skies",
            "--metrics",
            "fd-random3d",
            "--videos",
            3,
            "--outdir",
            tmp_path,
            "--workers",
            0,
        )
        assert "no video of 16 frames" in said.error
        for name, seed in (("real", 1), ("fake", 2)):
            write_npz(tmp_path / name, made_clips(24, seed=seed))
        said = digan("evaluate", "--fakes", tmp_path / "fake", "--data", tmp_path / "real",
                     "--metrics", "fd-random3d", "--videos", 12, "--outdir", tmp_path,
                     "--workers", 0, "--device", "cpu")  # fmt: skip
        assert said.status == 0, said.err
        assert "12 fakes against 12 real clips, 16 frames of 16x16" in said.out
        assert "note: 12 videos instead of 512" in said.out
        (row,) = rows_of(tmp_path / "metric-fd-random3d.jsonl")
        assert row["results"]["fd-random3d"] > 0
        assert row["protocol"]["n_fake"] == row["protocol"]["n_control"] == 12
        assert row["protocol"]["clip_rule"] == "windows"

    def test_a_class_without_clips_does_not_cost_the_others(self, place, tmp_path, digan):
        # 9 frames have one video of the first class and two of the second.
        said = digan("evaluate", "--network", place / "cond.safetensors", "--data", place / "skies",
                     "--metrics", "fvd3_9f", "--per-class", "--i3d", place / "i3d.pt", "--outdir",
                     tmp_path, "--workers", 0, "--recompute")  # fmt: skip
        assert said.status == 0
        assert "[dusk]: a Fr" in said.err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--metrics", "fvd6_4f"], "this metric needs the file of the i3d network"),
            (["--metrics", "lpips"], "got 'lpips'"),
            (["--metrics", "fvd6_4f", "--i3d", "nowhere.pt"], "nowhere.pt of the i3d network"),
            (["--metrics", "fvd6_4f", "--i3d-sha256", "00", "--i3d", "I3D"], "must have sha256 00"),
            (["--metrics", "fvd6_4f", "--i3d", "I3D", "--split", "test"], "split must be one of"),
            (["--metrics", "fvd6_4f", "--batch", "0"], "batch must be at least 1, got 0"),
        ],
    )
    def test_mistakes_are_one_line(self, place, tmp_path, digan, words, message):
        given = [place / "i3d.pt" if word == "I3D" else word for word in words]
        said = digan("evaluate", "--network", place / "net.safetensors", "--data", place / "skies",
                     "--outdir", tmp_path, "--workers", 0, *given)  # fmt: skip
        assert said.status == 1
        assert message in said.error

    def test_usage(self, place, digan):
        both = digan("evaluate", "--data", place / "skies")
        assert both.status == 2
        assert "either --network or --fakes" in both.error
        none = digan("evaluate", "--network", "demo", "--metrics", "fvd6_4f")
        assert none.status == 2
        assert "needs --data" in none.error


def test_clips_are_never_all_in_memory(place):
    class Many(VideoSet):
        path, fps, classes, split_names = place, 0.0, (), ()
        lengths, names = np.full(240, 128), [str(n) for n in range(240)]
        labels = splits = np.full(240, -1)

        def read(self, video, frames):
            return np.full((len(frames), 16, 16, 3), video, dtype=np.uint8)

        def content_sha256(self):
            return "many"

        def to_json(self):
            return {}

    judge = Evaluator(Many(), {"i3d": DetectorFile(place / "i3d.pt")}, progress=False)
    judge.detector("i3d")
    tracemalloc.start()
    try:
        result = judge.evaluate(FileFakes(Many()), parse_protocol("fvd240_128f"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (result.n_real, result.n_fake) == (240, 240)
    clip = 128 * 16 * 16 * 3
    assert peak < 60 * clip  # of 480


def test_frechet_with_divisor_n():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 5)), rng.normal(size=(50, 5)) * 2 + 1
    covs = [np.cov(x.T, ddof=0) for x in (a, b)]
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covs[0] + covs[1])
    expected -= 2 * np.trace(linalg.sqrtm(covs[0] @ covs[1])).real
    assert frechet_distance(a, b, population=True) == pytest.approx(expected, rel=1e-9)
