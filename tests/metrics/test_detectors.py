"""Detectors from files: conventions, checks of the file, one line for every mishap."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from digan.errors import DiganError
from digan.files import file_sha256
from digan.metrics import load_detector
from digan.metrics.detectors import is_torchscript
from digan.metrics.i3d import I3D, i3d_input
from tests.metrics.networks import (
    NotCalledLikeThat,
    StandInC3D,
    StandInI3D,
    made_clips,
    named_weights,
    scripted,
)


@pytest.fixture(autouse=True)
def _no_files_from_outside(monkeypatch):
    for kind in ("I3D", "C3D", "VIDEOMAE"):
        monkeypatch.delenv(f"DIGAN_{kind}_PATH", raising=False)


@pytest.fixture(scope="module")
def weights():
    shapes = {name: tuple(value.shape) for name, value in I3D().state_dict().items()}
    return named_weights(shapes)


class TestScripted:
    def test_i3d_gets_levels_and_its_flags(self, tmp_path):
        path = scripted(tmp_path / "i3d.pt", StandInI3D())
        detector = load_detector("i3d", path)
        clips = made_clips(3)
        x = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float()
        expected = StandInI3D()(x, rescale=True, resize=True, return_features=True)
        got = detector(clips)
        assert got.dtype == torch.float32
        assert torch.allclose(got, expected, atol=1e-6)
        about = detector.to_json()
        assert about["sha256"] == file_sha256(path)
        assert about["file"] == "i3d.pt"
        assert "TorchScript" in about["convention"]

    def test_c3d_gives_probabilities(self, tmp_path):
        got = load_detector("c3d", scripted(tmp_path / "c3d.pt", StandInC3D()))(made_clips(3))
        assert got.shape == (3, 12)
        assert torch.allclose(got.sum(1), torch.ones(3))

    def test_environment_names_the_file(self, tmp_path, monkeypatch):
        path = scripted(tmp_path / "i3d.pt", StandInI3D())
        monkeypatch.setenv("DIGAN_I3D_PATH", str(path))
        assert load_detector("i3d").path == path

    def test_another_signature(self, tmp_path):
        detector = load_detector("i3d", scripted(tmp_path / "other.pt", NotCalledLikeThat()))
        with pytest.raises(DiganError, match=r"does not take videos as a TorchScript I3D"):
            detector(made_clips(2))

    def test_told_apart_by_content(self, tmp_path, weights):
        assert is_torchscript(scripted(tmp_path / "a", StandInI3D()))
        torch.save({"x": torch.zeros(1)}, tmp_path / "b")
        assert not is_torchscript(tmp_path / "b")
        (tmp_path / "c").write_bytes(b"not a zip")
        assert not is_torchscript(tmp_path / "c")


class TestStateDict:
    def test_features_are_logits_of_the_originals_input(self, tmp_path, weights):
        torch.save(weights, tmp_path / "i3d_400.pt")
        detector = load_detector("i3d", tmp_path / "i3d_400.pt")
        clips = made_clips(2, frames=9)
        network = I3D().eval()
        network.load_state_dict(weights)
        with torch.no_grad():
            expected = network(i3d_input(torch.from_numpy(clips)))
        got = detector(clips)
        assert got.shape == (2, 400)
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-3)
        with pytest.raises(DiganError, match="at least 9 frames, got 8"):
            detector(clips[:, :8])

    def test_other_containers(self, tmp_path, weights):
        without = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
        save_file(without, tmp_path / "a.safetensors")
        torch.save({f"module.{k}": v for k, v in weights.items()}, tmp_path / "b.pt")
        a, b = (load_detector("i3d", tmp_path / name) for name in ("a.safetensors", "b.pt"))
        clip = made_clips(1, frames=9)
        assert torch.equal(a(clip), b(clip))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d.pop("Mixed_4c.b1a.bn.bias"), r"Mixed_4c.b1a.bn.bias must be \[112\], "
             "got nothing of that name"),
            (lambda d: d.update({"logits.conv3d.bias": torch.zeros(101)}),
             r"logits.conv3d.bias must be \[400\], got shape \[101\]"),
            (lambda d: d.update({"head.weight": torch.zeros(1)}), "it holds head.weight beside"),
            (lambda d: d.update({"epoch": 3}), "no state dict"),
        ],
    )  # fmt: skip
    def test_shapes_that_are_not_i3ds(self, tmp_path, weights, change, message):
        spoilt = dict(weights)
        change(spoilt)
        torch.save(spoilt, tmp_path / "x.pt")
        with pytest.raises(DiganError, match=message):
            load_detector("i3d", tmp_path / "x.pt")

    def test_runs_no_code(self, tmp_path):
        class Hostile:
            def __reduce__(self):
                return (open, (str(tmp_path / "made"), "w"))

        torch.save({"x": Hostile()}, tmp_path / "x.pt")
        with pytest.raises(DiganError, match="is no state dict"):
            load_detector("i3d", tmp_path / "x.pt")
        assert not (tmp_path / "made").exists()

    def test_damaged(self, tmp_path, weights):
        torch.save(weights, tmp_path / "x.pt")
        whole = (tmp_path / "x.pt").read_bytes()
        for content in (b"", b"\0" * 99, whole[: len(whole) // 2]):
            (tmp_path / "x.pt").write_bytes(content)
            with pytest.raises(DiganError, match="is no state dict"):
                load_detector("i3d", tmp_path / "x.pt")


class TestFiles:
    def test_none_given_says_which_is_wanted(self):
        with pytest.raises(DiganError) as told:
            load_detector("i3d")
        text = str(told.value)
        for word in ("i3d_torchscript.pt", "bec6519f66ea534e", "README", "--i3d", "DIGAN_I3D_PATH"):
            assert word in text
        assert "\n" not in text
        with pytest.raises(DiganError, match=r"c3d_ucf101.pt .* --c3d or DIGAN_C3D_PATH"):
            load_detector("c3d")
        with pytest.raises(DiganError, match="--videomae"):
            load_detector("videomae")

    def test_missing(self, tmp_path):
        with pytest.raises(DiganError, match=r"nowhere.pt of the i3d network does not exist"):
            load_detector("i3d", tmp_path / "nowhere.pt")

    def test_sha256_is_checked_before_loading(self, tmp_path):
        path = tmp_path / "x.pt"
        path.write_bytes(b"no network at all")
        right = file_sha256(path)
        with pytest.raises(DiganError, match=rf"must have sha256 {'0' * 64}, got {right}"):
            load_detector("i3d", path, sha256="0" * 64)
        with pytest.raises(DiganError, match="is no state dict"):
            load_detector("i3d", path, sha256=right.upper())

    def test_kind(self):
        with pytest.raises(DiganError, match="of i3d, c3d, videomae, got 'r3d'"):
            load_detector("r3d")


class TestVideoMae:
    def test_without_transformers(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(DiganError, match="need transformers: pip install transformers"):
            load_detector("videomae", tmp_path)

    def test_sixteen_frames_are_spread_and_tokens_averaged(self, tmp_path, monkeypatch):
        # transformers is no dependency: a module of the two calls that are made of it.
        class Model(torch.nn.Module):
            def forward(self, pixels):
                return types.SimpleNamespace(last_hidden_state=pixels.mean((3, 4)))

        def processor(videos, return_tensors):
            stacked = np.stack([np.stack(video) for video in videos])
            return {"pixel_values": torch.from_numpy(stacked).permute(0, 1, 4, 2, 3).float()}

        def loads(made):
            return types.SimpleNamespace(from_pretrained=lambda path, local_files_only: made)

        fake = types.SimpleNamespace(
            VideoMAEModel=loads(Model()), VideoMAEImageProcessor=loads(processor)
        )
        monkeypatch.setitem(sys.modules, "transformers", fake)
        (tmp_path / "config.json").write_text("{}")
        clips = made_clips(2, frames=31)
        got = load_detector("videomae", tmp_path)(clips)
        expected = clips[:, ::2].astype(np.float64).mean((1, 2, 3))
        assert np.allclose(got.numpy(), expected, rtol=1e-5)
