"""Networks from official files and back, bit by bit; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from digan.config import DiscriminatorConfig, GeneratorConfig
from digan.errors import DiganError
from digan.importer import (
    export_state_dict,
    import_discriminators,
    import_generator,
    import_stylegan2_discriminator,
    read_snapshot,
    start_from_stylegan2,
)
from digan.nn import Generator, PairDiscriminator
from digan.nn.official import (
    discriminator_name,
    discriminator_names,
    generator_name,
    generator_names,
)
from tests.golden_numbers import load
from tests.importer.official_file import module, write
from tests.nn.tiny import noise, randomised, tiny_discriminators, tiny_generator

GENERATOR_ARGUMENTS = {
    "z_dim": 12,
    "synthesis_kwargs": {"channel_base": 512, "channel_max": 8, "conv_clamp": 256},
    "cfg": {"use_noise": False, "coords": {"motion_sigma": 4.0}, "fmm": {"rank": 3}},
}
DISCRIMINATOR_ARGUMENTS = {
    "channel_base": 512, "conv_clamp": 64, "epilogue_kwargs": {"mbstd_group_size": 2}
}  # fmt: skip


def both(resolution: int, classes: int) -> tuple[Generator, PairDiscriminator]:
    generator = tiny_generator(resolution, classes=classes, seed=resolution)
    return generator, tiny_discriminators(resolution, classes=classes, seed=resolution + 1)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_round_trip_is_bitwise(tmp_path, resolution, classes):
    """Ours, official names, official file, ours; and the official names once more."""
    generator, pair = both(resolution, classes)
    official, judged = export_state_dict(generator), export_state_dict(pair)
    networks = {
        "G": module("Generator", export_state_dict(tiny_generator(resolution)), {}),
        "D": module("DualDiscriminator", judged, DISCRIMINATOR_ARGUMENTS),
        "G_ema": module("Generator", official, GENERATOR_ARGUMENTS),
    }
    snapshot = read_snapshot(write(tmp_path / "a.pkl", networks))
    ours, our_pair = import_generator(snapshot), import_discriminators(snapshot)
    for found, wanted in ((ours, generator), (our_pair, pair)):
        assert found.state_dict().keys() == wanted.state_dict().keys()
        for name, value in wanted.state_dict().items():
            assert torch.equal(found.state_dict()[name], value), name
    assert export_state_dict(ours).keys() == official.keys()
    for back, there in ((export_state_dict(ours), official), (export_state_dict(our_pair), judged)):
        assert all(torch.equal(back[name], value) for name, value in there.items())
    config = ours.config
    assert (config.resolution, config.num_classes) == (resolution, classes)
    assert (config.clamp, config.motion_scale) == (256, 4)
    assert (config.channel_base, config.channel_max) == (512, 8)
    assert (our_pair.config.clamp, our_pair.config.group_size) == (64, 2)
    assert our_pair.config.mapping_layers == (2 if classes else 8)
    assert not any(p.requires_grad for p in [*ours.parameters(), *our_pair.parameters()])


@pytest.mark.parametrize(
    ("file", "config"),
    [
        ("a1_generator_128_uncond", GeneratorConfig(128)),
        ("a2_generator_64_uncond", GeneratorConfig(64)),
        ("b2_generator_64_cond5", GeneratorConfig(64, num_classes=5)),
        ("d1_discriminator_64_group4", DiscriminatorConfig(64)),
    ],
)
def test_exported_names_are_all_of_the_originals(file, config):
    """In the original's order, filters included."""
    numbers = load(file)
    found = {*numbers.names("param/"), *numbers.names("buffer/")}
    make: Callable[[Any], list[str]] = (
        generator_names if isinstance(config, GeneratorConfig) else discriminator_names
    )
    filters = {name for name in make(config) if name.endswith("resample_filter")}
    assert set(make(config)) - filters == {n for n in found if not n.endswith("resample_filter")}
    assert len(make(config)) == len(set(make(config)))
    kept = {name for name in found if name.endswith("resample_filter")}
    assert kept <= filters
    assert not kept or kept == filters


def test_golden_names_in_order():
    """The original's own order, as its state dict gives it."""
    numbers = load("i_snapshot_expected", "full")
    assert generator_names(GeneratorConfig(64)) == numbers.names("G/")
    assert discriminator_names(DiscriminatorConfig(64)) == numbers.names("D/")


def test_every_exported_name_has_a_place():
    for config in (GeneratorConfig(256, num_classes=2), GeneratorConfig(32, mapping_layers=5)):
        with torch.device("meta"):
            wanted = set(Generator(config).state_dict())
        names = [n for n in generator_names(config) if not n.endswith("resample_filter")]
        assert {generator_name(name) for name in names} == wanted
    for pair in (DiscriminatorConfig(256, num_classes=2), DiscriminatorConfig(32)):
        with torch.device("meta"):
            wanted = set(PairDiscriminator(pair).state_dict())
        names = [n for n in discriminator_names(pair) if not n.endswith("resample_filter")]
        assert {discriminator_name(name, pair.resolution) for name in names} == wanted


def test_published_sizes_are_found():
    """128x128 with the published widths, without memory: base 32768, at most 512."""
    from digan.importer.networks import discriminator_config, generator_config

    for resolution in (64, 128, 256):
        wanted, judge = GeneratorConfig(resolution), DiscriminatorConfig(resolution)
        with torch.device("meta"):
            generator, pair = Generator(wanted), PairDiscriminator(judge)
        shapes = {
            name: tuple(generator.state_dict()[generator_name(name)].shape)
            for name in generator_names(wanted)
            if not name.endswith("resample_filter")
        }
        arguments = {"synthesis_kwargs": {"channel_base": 32768, "conv_clamp": None}}
        assert generator_config(shapes, arguments) == wanted
        shapes = {
            name: tuple(pair.state_dict()[discriminator_name(name, resolution)].shape)
            for name in discriminator_names(judge)
            if not name.endswith("resample_filter")
        }
        arguments = {"channel_base": 32768, "conv_clamp": 256}
        assert discriminator_config(shapes, arguments, prefix="videoD.") == judge


def edited(change: Callable[[dict[str, Tensor]], object]) -> dict[str, Tensor]:
    state = export_state_dict(tiny_generator())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("mapping.fc0.bias"), "has no tensor mapping.fc0.bias$"),
        (lambda s: s.pop("mapping.w_avg"), "has no tensor mapping.w_avg$"),
        (lambda s: s.pop("synthesis.b8.torgb.weight"), "no tensor synthesis.b8.torgb.weight$"),
        (
            lambda s: [s.pop(n) for n in list(s) if "b8.conv" in n and "filter" not in n],
            "has no tensor synthesis.b8.conv0.weight, nor 7 others$",
        ),
        (lambda s: [s.pop(n) for n in list(s) if "torgb" in n], "has no block of 32 to 1024"),
        (
            lambda s: s.update({"synthesis.b8.conv0.noise_strength": torch.zeros(())}),
            "b8.conv0.noise_strength that digan has no place for",
        ),
        (
            lambda s: s.update({"synthesis.b8.conv0.bias": torch.zeros(9)}),
            r"synthesis.b8.conv0.bias must be \[8\] of floating point, got \[9\]",
        ),
        (
            lambda s: s.update({"synthesis.b8.conv0.weight": torch.zeros(8, 8, 3, 3)}),
            r"b8.conv0.weight must be \[8, 8, 1, 1\] of floating point, got \[8, 8, 3, 3\]",
        ),
        (
            lambda s: s.update({"synthesis.b16.torgb.weight": torch.zeros(3, 5, 1, 1)}),
            "has channels .* which are not min",
        ),
        (
            lambda s: s.update({"synthesis.b8.resample_filter": torch.ones(4, 4) / 16}),
            r"must be the filter of \[1, 3, 3, 1\]",
        ),
        (
            lambda s: s["synthesis.b8.conv0.bias"].fill_(float("nan")),
            "conv0.bias has values that are not finite",
        ),
    ],
)
def test_networks_that_do_not_fit(tmp_path, change, sentence):
    path = write(tmp_path / "a.pkl", {"G_ema": module("Generator", edited(change))})
    with pytest.raises(DiganError, match=sentence) as caught:
        import_generator(read_snapshot(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cfg", "sentence"),
    [
        ({"upsampling_mode": "bilinear"}, "upsampling_mode must be nearest, got bilinear"),
        ({"fmm": {"activation": "sigmoid"}}, "fmm.activation must be demod, got sigmoid"),
        ({"coords": {"global_motion": True}}, "coords.global_motion must be False, got True"),
    ],
)
def test_variants_with_other_outputs_are_refused(tmp_path, cfg, sentence):
    state = export_state_dict(tiny_generator())
    path = write(tmp_path / "a.pkl", {"G_ema": module("Generator", state, {"cfg": cfg})})
    with pytest.raises(DiganError, match=sentence):
        import_generator(read_snapshot(path))


def test_missing_networks_are_named(tmp_path):
    path = write(tmp_path / "a.pkl", {"G": module("Generator", {})})
    snapshot = read_snapshot(path)
    with pytest.raises(DiganError, match="has no network D, it has G$"):
        import_discriminators(snapshot)
    with pytest.raises(DiganError, match="has no network G_ema, it has G$"):
        import_generator(snapshot)


def test_half_precision_tensors(tmp_path):
    """What was stored in 16 bits is exact in 32."""
    state = export_state_dict(tiny_generator())
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        narrow = {name: value.to(dtype) for name, value in state.items()}
        path = write(tmp_path / "a.pkl", {"G_ema": module("Generator", narrow)})
        found = export_state_dict(import_generator(read_snapshot(path)))
        for name, value in narrow.items():
            assert torch.equal(found[name], value.float()), name


# ---------------------------------------------------------------- StyleGAN2


def stylegan2(resolution: int = 64, classes: int = 0) -> dict[str, Tensor]:
    """A discriminator of images by the names of stylegan2-ada-pytorch."""
    state = export_state_dict(tiny_discriminators(resolution, classes=classes, seed=5))
    prefix = "imageD."
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}


@pytest.mark.parametrize("classes", [0, 3])
def test_stylegan2_starts_both_discriminators(tmp_path, classes):
    arguments = {"channel_base": 512, "conv_clamp": 256, "epilogue_kwargs": {}}
    state = stylegan2(classes=classes)
    path = write(tmp_path / "s.pkl", {"D": module("Discriminator", state, arguments)})
    pair = import_stylegan2_discriminator(path)
    original = tiny_discriminators(64, classes=classes, seed=5)
    for name, value in original.image.state_dict().items():
        assert torch.equal(pair.image.state_dict()[name], value)
        if name != "from_rgb.weight":
            assert torch.equal(pair.video.state_dict()[name], value)
    assert pair.video.from_rgb.weight.shape[1] == 7


def test_a_still_pair_is_judged_as_its_frame():
    """With any time difference: both frames share the weights, the plane of time has none."""
    config = tiny_discriminators(64).config
    state = {n: v for n, v in stylegan2().items() if not n.endswith("resample_filter")}
    pair = start_from_stylegan2(state, config).double()
    frame = noise(4, 3, 64, 64, seed=3, dtype=torch.float64)
    frames = torch.stack([frame, frame], dim=1)
    video, _ = pair(frames, torch.tensor([0.1, 0.5, 0.9, 0.3], dtype=torch.float64))
    alone = pair.image(frame)
    # The weights are rounded to float32 after the factor.
    assert (video - alone).norm() < 1e-5 * alone.norm()
    moved = torch.stack([frame, frame.roll(5, dims=3)], dim=1)
    other = pair(moved, torch.zeros(4).double())[0]
    assert (other - alone).norm() > 1e-2 * alone.norm()


def test_stylegan2_that_does_not_fit(tmp_path):
    config = tiny_discriminators(64).config
    state = stylegan2()
    with pytest.raises(DiganError, match=r"no tensor b64.fromrgb.weight"):
        start_from_stylegan2({}, config)
    with pytest.raises(DiganError, match="has no place"):
        start_from_stylegan2({**state, "b64.fade.weight": torch.zeros(1)}, config)
    with pytest.raises(DiganError, match="does not fit its sizes"):
        start_from_stylegan2({**state, "b4.out.bias": torch.zeros(2)}, config)
    skip = {name: value for name, value in state.items() if "skip" not in name}
    path = write(tmp_path / "s.pkl", {"D": module("Discriminator", skip, {})})
    with pytest.raises(DiganError, match=r"has no tensor b64.skip.weight"):
        import_stylegan2_discriminator(path)


def test_random_networks_differ():
    """The comparisons above would pass for networks that are all alike."""
    first = randomised(Generator(tiny_generator().config), 1).state_dict()
    second = randomised(Generator(tiny_generator().config), 2).state_dict()
    assert not any(torch.equal(first[name], second[name]) for name in first)
