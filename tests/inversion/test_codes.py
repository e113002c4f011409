"""Codes files: what is saved comes back, for its own network alone."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from digan.errors import DiganError
from digan.inversion import load_codes, network_hash, save_codes
from digan.synthesis import Codes
from tests.tiny_runs import tiny_network

NETWORK = tiny_network()
ABOUT = {"clip": "a.mp4", "psnr": 41.5, "observed": [0, 2]}


def random_codes(count: int = 2) -> Codes:
    return Codes(torch.randn(count, NETWORK.num_ws, 16), torch.randn(count, 16))


def test_codes_come_back(tmp_path):
    codes = random_codes()
    save_codes(tmp_path / "codes.safetensors", codes, NETWORK, ABOUT)
    for network in (None, NETWORK):
        saved = load_codes(tmp_path / "codes.safetensors", network)
        assert torch.equal(saved.codes.ws, codes.ws)
        assert torch.equal(saved.codes.z_motion, codes.z_motion)
        assert saved.about == ABOUT
        assert saved.network == network_hash(NETWORK)
    assert list(tmp_path.iterdir()) == [tmp_path / "codes.safetensors"]


def test_they_come_in_the_networks_dtype(tmp_path):
    save_codes(tmp_path / "c", random_codes(), NETWORK, {})
    double = tiny_network().double()
    assert network_hash(double) == network_hash(NETWORK)
    assert load_codes(tmp_path / "c", double).codes.ws.dtype == torch.float64


def test_a_view_can_be_saved(tmp_path):
    w = torch.randn(1, 16)
    codes = Codes(w[:, None].expand(-1, NETWORK.num_ws, -1), w)
    save_codes(tmp_path / "c", codes, NETWORK, {})
    assert torch.equal(load_codes(tmp_path / "c").codes.ws, codes.ws)


def test_the_fingerprint_sees_every_tensor():
    base = network_hash(NETWORK)
    assert len(base) == 16
    for name in NETWORK.state_dict():
        other = tiny_network()
        other.state_dict()[name].flatten()[-1:].add_(1e-3)
        assert network_hash(other) != base, name


def test_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "c"
    with pytest.raises(DiganError, match=r"the codes file .* does not exist"):
        load_codes(path)
    save_codes(path, random_codes(), NETWORK, {})
    with pytest.raises(DiganError, match="holds codes of another network"):
        load_codes(path, tiny_network(seed=1))
    with pytest.raises(DiganError, match="holds codes of another network"):
        load_codes(path, tiny_network(64))
    whole = path.read_bytes()
    damaged = [b"", b"text", whole[:40], whole[:-5], whole.replace(b"digan_codes", b"digan_other"),
               whole.replace(b"z_motion", b"z_Motion")]  # fmt: skip
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DiganError, match="is damaged or no codes file") as error:
            load_codes(path)
        assert "\n" not in str(error.value)
    path.write_bytes(whole.replace(b'format_version\\": 1', b'format_version\\": 7'))
    with pytest.raises(DiganError, match="has format version 7, this program reads up to 1"):
        load_codes(path)
    save_file({"ws": torch.zeros(1, 2, 3), "z_motion": torch.zeros(1, 4)}, path)
    with pytest.raises(DiganError, match="is damaged or no codes file"):
        load_codes(path)
    with pytest.raises(DiganError, match="cannot be written"):
        save_codes(tmp_path / "none" / "c", random_codes(), NETWORK, {})
