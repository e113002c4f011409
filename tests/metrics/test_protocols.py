"""Protocols by name: what the published ones are, any others, and what is no name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digan.config import TrainConfig
from digan.errors import DiganError
from digan.metrics.protocols import parse_metrics, parse_protocol, random3d_protocol


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digan-fvd", {"kind": "fvd", "n_real": 2048, "n_fake": 2048, "frames": 16, "stride": 1,
                       "repeats": 10, "seed": 42, "clip_rule": "windows",
                       "rounding": "truncate", "covariance": "unbiased", "detector": "i3d"}),
        ("digan-kvd", {"kind": "kvd", "repeats": 10, "rounding": "truncate", "detector": "i3d"}),
        ("fvd2048_16f", {"kind": "fvd", "n_real": 2048, "frames": 16, "stride": 1, "repeats": 1,
                         "clip_rule": "per-video", "rounding": "round",
                         "covariance": "population"}),
        ("fvd2048_128f", {"frames": 128, "stride": 1, "span": 128}),
        ("fvd2048_128f_subsample8f", {"frames": 16, "stride": 8, "span": 128}),
        ("kvd2048_16f", {"kind": "kvd", "n_fake": 2048, "frames": 16, "detector": "i3d"}),
        ("isv2048_ucf", {"kind": "isv", "n_real": 0, "n_fake": 2048, "frames": 16, "splits": 10,
                         "detector": "c3d"}),
        ("fvd512_16f_subsample2f", {"n_real": 512, "n_fake": 512, "frames": 8, "stride": 2}),
        ("cdfvd2048_16f", {"kind": "fvd", "detector": "videomae"}),
    ],
)  # fmt: skip
def test_published_names(name, expected):
    protocol = parse_protocol(name)
    assert protocol.name == name
    assert {key: getattr(protocol, key) for key in expected} == expected
    assert protocol.fake_clip_rule == "start"
    assert not protocol.mirror
    assert not protocol.changed


@given(
    st.sampled_from(["fvd", "kvd", "cdfvd"]),
    st.integers(2, 99999),
    st.integers(1, 64),
    st.integers(1, 16),
)
def test_any_other_numbers(kind, count, frames, stride):
    name = f"{kind}{count}_{frames * stride}f" + (f"_subsample{stride}f" if stride > 1 else "")
    protocol = parse_protocol(name)
    assert (protocol.n_real, protocol.n_fake) == (count, count)
    assert (protocol.frames, protocol.stride) == (frames, stride)
    assert TrainConfig(metrics=(name,)).metrics == (name,)
    values = json.loads(json.dumps(protocol.to_json(), allow_nan=False))
    assert values["name"] == name
    assert values["covariance"] == ("unbiased" if kind == "kvd" else "population")


def test_changes_are_noted():
    protocol = parse_protocol("digan-fvd").change(videos=64, repeats=3, split="test", seed=7)
    assert (protocol.n_real, protocol.n_fake, protocol.repeats) == (64, 64, 3)
    assert (protocol.split, protocol.seed) == ("test", 7)
    assert protocol.changed == ("64 videos instead of 2048", "3 repeats instead of 10")
    same = parse_protocol("fvd64_16f")
    assert same.change(videos=64, repeats=1) == same
    few = parse_protocol("isv2048_ucf").change(videos=4)
    assert (few.n_real, few.n_fake, few.splits) == (0, 4, 1)
    halves = random3d_protocol().change(videos=32)
    assert (halves.n_real, halves.n_fake) == (64, 32)


@pytest.mark.parametrize(
    "name", ["fvd", "fvd2048", "fvd2048_16", "FVD2048_16f", "isv2048_sky", "fvd-1_16f", "lpips", "",
             "fvd2048_16f_subsample", "fvd12345678_16f"]
)  # fmt: skip
def test_no_such_name(name):
    with pytest.raises(DiganError, match=r"a metric must be .* as fvd2048_16f, got"):
        parse_protocol(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fvd2048_16f_subsample3f", "multiple of its subsampling, got 16 and 3"),
        ("fvd2048_16f_subsample0f", "multiple of its subsampling|got 16 and"),
        ("fvd1_16f", "n_real of the protocol fvd1_16f must be from 2 to 1000000, got 1"),
        ("fvd16_0f", "frames of the protocol fvd16_0f must be from 1 to 65536, got 0"),
        ("isv1_ucf", "n_fake of the protocol isv1_ucf must be from 2"),
    ],
)
def test_numbers_that_cannot_be(name, message):
    with pytest.raises(DiganError, match=message):
        parse_protocol(name)


def test_lists_of_names():
    assert parse_metrics("fd-random3d, fvd8_16f,fvd8_16f") == ("fd-random3d", "fvd8_16f")
    with pytest.raises(DiganError, match="got none"):
        parse_metrics(" , ")
    with pytest.raises(DiganError, match="got 'psnr'"):
        parse_metrics("fvd8_16f,psnr")
