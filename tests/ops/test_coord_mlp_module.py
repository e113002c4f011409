"""CoordMLP as a module: signals and codes, precision, the compiler, copies, manners, errors."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from digan import ops
from digan.ops import CoordMLP, coord_networks
from tests.op_cases import generator_of, relative_error
from tests.ops.checks import RecordedCalls
from tests.ops.plain_networks import NETWORKS, B, D, N, each_network, network_of, plain, some

# ---------------------------------------------------------------- signals and codes


@pytest.mark.parametrize("network", [n for n in NETWORKS if n.name.startswith("codes")], ids=str)
def test_codes_of_a_batch_equal_codes_one_by_one(network):
    mlp, coords, codes = network.make(), network.coords(), network.codes()
    batch = mlp(coords, codes)
    for b in range(B):
        alone = mlp(coords[b : b + 1], codes[b : b + 1])
        assert relative_error(alone[0], batch[b]) < 1e-14
    assert relative_error(batch[0], mlp(coords[:1], codes[1:2])[0]) > 1e-3


@pytest.mark.parametrize("network", [n for n in NETWORKS if n.name.startswith("many")], ids=str)
def test_many_signals_are_as_many_networks(network):
    """Each equals a network of its own with its slice of the parameters."""
    mlp, coords = network.make(), network.coords()
    for b in range(B):
        alone = network.make(signals=1)
        alone.load_state_dict({name: x[b : b + 1] for name, x in mlp.state_dict().items()})
        assert relative_error(mlp(coords)[b], alone(coords[b])) < 1e-14
    out = mlp(coords)
    out[1].square().sum().backward()
    for name, parameter in mlp.named_parameters():
        grad = parameter.grad
        assert grad[1].abs().sum() > 0, name
        assert grad[0].abs().sum() == grad[2].abs().sum() == 0, name


@some("codes_siren", "codes_fourier_gelu")
def test_code_zero_is_the_network_without_codes(network):
    mlp, coords = network.make(), network.coords()
    without = network.make(code_features=0)
    own = without.state_dict()
    without.load_state_dict({name: x for name, x in mlp.state_dict().items() if name in own})
    zero = torch.zeros(B, D, dtype=torch.float64)
    assert relative_error(mlp(coords, zero), without(coords)) < 1e-14


@some("codes_siren", "codes_fourier_relu")
def test_no_gradient_vanishes_at_code_zero(network):
    """Else an auto-decoder whose codes start near zero would learn slowly."""
    mlp, coords = network.make(), network.coords()
    codes = torch.zeros(B, D, dtype=torch.float64, requires_grad=True)
    mlp(coords, codes).square().sum().backward()
    assert (codes.grad.abs() > 1e-6).all()
    assert all(affine.bias.grad.abs().max() > 0 for affine in (mlp.film, *mlp.factors))


def test_shapes_of_outputs():
    single, many = network_of("siren_image"), network_of("many_softplus")
    family = network_of("codes_lrelu")
    coords, codes = single.coords(), family.codes()
    assert single.make()(coords[0]).shape == (N, 2)
    assert single.make()(coords[:1]).shape == (1, N, 2)
    assert single.make()(coords).shape == (B, N, 2)
    assert many.make()(coords[0]).shape == (B, N, 2)
    assert family.make()(coords[0], codes).shape == (B, N, 2)
    assert family.make()(coords[0], codes[:1]).shape == (1, N, 2)
    assert torch.allclose(single.make()(coords)[1], single.make()(coords[1]), atol=1e-14)


@each_network
def test_nothing_to_evaluate(network):
    """No points, no frames, no signals."""
    mlp, coords, codes = network.make(), network.coords(), network.codes()
    assert mlp(coords[:, :0], codes).shape == (B, 0, 2)
    if codes is not None:
        assert mlp(coords[:0], codes[:0]).shape == (0, N, 2)
        assert mlp(coords[0], codes[:0]).shape == (0, N, 2)
    elif mlp.signals == 1:
        assert mlp(coords[:0]).shape == (0, N, 2)
    if network.coordinates == 3:
        axis = torch.linspace(-1, 1, 4, dtype=torch.float64)
        count = B if mlp.signals > 1 or codes is not None else 1
        assert mlp.on_grid(axis, axis, axis[:0], codes).shape == (count, 0, 4, 4, 2)
        assert mlp.on_grid(axis[:0], axis, axis, codes).shape == (count, 4, 0, 4, 2)
    mlp(coords[:, :0], codes).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in mlp.parameters())


# ---------------------------------------------------------------- precision


@each_network
def test_bfloat16_parameters(network):
    """As exact as plain PyTorch with these parameters; coordinates stay float32."""
    mlp = network.make(torch.bfloat16, alpha=None, first_alpha=None)
    coords = network.coords(torch.float32)
    codes = network.codes(torch.float32)
    wide = copy.deepcopy(mlp).double()
    truth = plain(wide, coords.double(), None if codes is None else codes.double())
    out = mlp(coords, codes)
    assert out.dtype == torch.bfloat16
    assert relative_error(out, truth) < 0.06
    out.float().square().sum().backward()
    for name, parameter in mlp.named_parameters():
        assert parameter.grad.dtype == torch.bfloat16, name


@some("siren_image", "fourier_relu")
def test_coordinates_of_another_dtype_are_cast(network):
    coords = network.coords()
    narrow, wide = network.make(torch.float32), network.make()
    assert torch.equal(narrow(coords), narrow(coords.float()))
    assert wide(coords.float()).dtype == torch.float64


# ---------------------------------------------------------------- the path and the compiler


def called(mlp: CoordMLP, function) -> set[str]:
    with RecordedCalls() as recorded:
        function(mlp).square().sum().backward()
    return set(recorded.names)


@some("fourier_relu", "siren_video", "codes_fourier_relu")
def test_impl_reaches_the_ops(network, monkeypatch):
    coords, codes = network.coords(), network.codes()
    monkeypatch.setattr(coord_networks, "_LARGE", 0)

    def at_points(mlp):
        return mlp(coords, codes)

    assert "modulated_linear" in called(network.make(), at_points)
    assert called(network.make(impl="reference"), at_points) == set()
    monkeypatch.setenv("DIGAN_OPS", "reference")
    assert called(network.make(), at_points) == set()
    assert "modulated_linear" in called(network.make(impl="auto"), at_points)
    monkeypatch.setenv("DIGAN_OPS", "fused")
    with pytest.raises(ops.OpUnavailableError):
        network.make()(coords, codes)
    monkeypatch.delenv("DIGAN_OPS")
    for call in (at_points, lambda mlp: mlp.on_grid(*axes_of(network), codes)):
        with pytest.raises(ops.OpUnavailableError, match="impl='fused'"):
            call(network.make(impl="fused"))


def test_unknown_impl():
    with pytest.raises(ValueError, match="impl must be one of auto, fused, reference, got 'gpu'"):
        CoordMLP(2, 1, impl="gpu")


def test_large_activations_go_tile_by_tile():
    """An op of 4 MB and more is called, a smaller one is not; the numbers are the same."""
    mlp = CoordMLP(2, 1, width=64, layers=2, activation="relu", generator=generator_of("large"))
    coords = torch.rand(1 << 14, 2, generator=generator_of("large")) * 2 - 1
    assert "modulated_linear" in called(mlp, lambda m: m(coords))
    parts = coords.split(1 << 12)
    assert called(mlp, lambda m: torch.cat([m(part) for part in parts])) == set()
    assert relative_error(torch.cat([mlp(part) for part in parts]), mlp(coords)) < 1e-5


def axes_of(network):
    axis = torch.linspace(-1, 1, 4, dtype=torch.float64)
    return (axis, axis, axis) if network.coordinates == 3 else (axis, axis, None)


def test_a_grid_makes_no_features_for_each_frame():
    """On Fourier features the first layer is coord_linear, and nothing of [T, H, W, 2F]."""
    network = network_of("codes_fourier_gelu")
    names = called(network.make(), lambda m: m.on_grid(*axes_of(network), network.codes()))
    assert "coord_linear" in names
    assert not {"fourier_features", "fourier_features_at"} & names


def test_gradients_that_nobody_wants_are_not_computed(monkeypatch):
    """Fixed frequencies on a grid, and derivatives by coordinates: plain autograd picks."""
    monkeypatch.setattr(coord_networks, "_LARGE", 0)
    network = network_of("fourier_relu")
    mlp, axes, coords = network.make(), axes_of(network), network.coords()
    assert "coord_linear" not in called(mlp, lambda m: m.on_grid(*axes))
    with torch.no_grad(), RecordedCalls() as recorded:
        mlp.on_grid(*axes)
    assert "coord_linear" in recorded.names
    assert "modulated_linear" in called(mlp, lambda m: m(coords))
    assert called(mlp, lambda m: m(coords.requires_grad_())) == set()


@some("codes_siren", "codes_fourier_gelu", "many_fourier_tanh")
def test_many_signals_go_in_groups(network, monkeypatch):
    """So that their activations stay in cache; the last group is smaller."""
    codes = network.codes()
    networks = network.make().write(codes)
    assert networks._groups(network.coords(), N) == [networks]
    monkeypatch.setattr(coord_networks, "_GROUP", 2 * N * 10 * 8)
    groups = networks._groups(network.coords(), N)
    assert [group.signals for group in groups] == [2, 1]


@some("siren_image", "fourier_relu", "codes_fourier_gelu", "many_sirens")
def test_compiles_into_one_graph(network):
    """Forward and backward as eager, at points and on grids."""
    mlp, coords = network.make(torch.float32), network.coords(torch.float32)
    codes = network.codes(torch.float32)
    axes = [None if axis is None else axis.float() for axis in axes_of(network)]
    torch._dynamo.reset()
    results = []
    for at, on_grid in (
        (mlp, mlp.on_grid),
        (
            torch.compile(mlp, fullgraph=True, backend="aot_eager"),
            torch.compile(mlp.on_grid, fullgraph=True, backend="aot_eager"),
        ),
    ):
        outs = [at(coords, codes), on_grid(*axes, codes)]
        mlp.zero_grad()
        sum(out.square().sum() for out in outs).backward()
        results.append([*outs, *(p.grad.clone() for p in mlp.parameters())])
    torch._dynamo.reset()
    for eager, compiled in zip(*results, strict=True):
        assert relative_error(compiled, eager) < 1e-6


# ---------------------------------------------------------------- copies


@each_network
def test_state_dict_copies_and_pickles(network):
    mlp, coords, codes = network.make(), network.coords(), network.codes()
    out = mlp(coords, codes)
    file = io.BytesIO()
    torch.save(mlp.state_dict(), file)
    file.seek(0)
    other = CoordMLP(
        network.coordinates, 2, width=9, layers=network.options.get("layers", 2), rank=2,
        **{k: v for k, v in network.options.items() if k != "layers"},
    ).double()  # fmt: skip
    assert relative_error(other(coords, codes), out) > 1e-3
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    copies = [other, copy.deepcopy(mlp), pickle.loads(pickle.dumps(mlp))]
    for twin in copies:
        assert torch.equal(twin(coords, codes), out)
        with torch.no_grad():
            twin.weights[0].add_(1)
        assert not torch.equal(twin(coords, codes), out)
    assert torch.equal(mlp(coords, codes), out)


def test_printed_form_says_the_sizes():
    text = repr(network_of("codes_fourier_gelu").make())
    assert "3 -> 2, activation=gelu, frequencies=5, code_features=4" in text


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("coordinates must be 1 to 4, got 5", {"coordinates": 5}),
        ("coordinates must be 1 to 4, got 0", {"coordinates": 0}),
        ("out_features must be at least 1, got 0", {"out_features": 0}),
        ("width must be at least 1, got -1", {"width": -1}),
        ("layers must be at least 1, got 0", {"layers": 0}),
        ("signals must be at least 1, got 0", {"signals": 0}),
        ("rank must be at least 1, got 0", {"rank": 0}),
        ("frequencies must be at least 0, got -3", {"frequencies": -3}),
        ("code_features must be at least 0, got -1", {"code_features": -1}),
        (
            "signals must be 1 for networks that codes write, got 2",
            {"signals": 2, "code_features": 4},
        ),
        ("activation must be one of linear, relu,", {"activation": "siren"}),
        (
            "frequency_scale must be a number or 3 numbers, got [1.0, 2.0]",
            {"frequency_scale": (1.0, 2.0)},
        ),
        ("alpha must not be 0 for sine, got 0", {"alpha": 0.0}),
        ("width must be at most 1048576, got 2147483648", {"width": 2**31}),
        ("layers must be at most 1048576, got an integer beyond 64 bits", {"layers": 10**30}),
        ("coordinates must be an integer, got '3'", {"coordinates": "3"}),
        *(
            (f"{name} must be an integer, got {said}", {name: value})
            for name in ("out_features", "width", "layers", "frequencies", "signals", "rank")
            for said, value in (("None", None), ("1.5", 1.5), ("[]", []))
        ),
        ("first_alpha must be a number, got a Tensor", {"first_alpha": torch.ones(2)}),
        ("frequency_scale must be a number, got 'ab'", {"frequency_scale": "ab"}),
        ("frequency_scale must be a number, got a dict", {"frequency_scale": [{}, 1, 1]}),
        ("learn_frequencies must be True or False, got 1", {"learn_frequencies": 1}),
    ],
)
def test_errors_of_the_constructor(message, arguments):
    with pytest.raises((ValueError, TypeError)) as raised:
        CoordMLP(**{"coordinates": 3, "out_features": 2, **arguments})
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("network", "error", "message", "arguments"),
    [
        ("siren_video", ValueError, "coords must be [B, N, 3] or [N, 3], got [5, 2]", (5, 2)),
        ("siren_video", ValueError, "coords must be [B, N, 3] or [N, 3], got [3]", (3,)),
        (
            "siren_video",
            ValueError,
            "coords must be [B, N, 3] or [N, 3], got [2, 2, 5, 3]",
            (2, 2, 5, 3),
        ),
        ("many_sirens", ValueError, "coords must be [3, N, 3] or [N, 3], got [2, 5, 3]", (2, 5, 3)),
    ],
)
def test_errors_of_coordinates(network, error, message, arguments):
    with pytest.raises(error) as raised:
        network_of(network).make()(torch.ones(arguments))
    assert str(raised.value) == message


def test_errors_of_dtype_and_device():
    mlp = network_of("siren_image").make()
    with pytest.raises(TypeError) as raised:
        mlp(torch.ones(5, 2, dtype=torch.int64))
    assert str(raised.value) == "coords must be a floating-point tensor, got torch.int64"
    with pytest.raises(TypeError, match="^coords must be a tensor, got None$"):
        mlp(None)
    with pytest.raises(ValueError) as raised:
        mlp(torch.ones(5, 2, device="meta"))
    assert str(raised.value) == "coords must be on the device of weight (cpu), got meta"


@pytest.mark.parametrize(
    ("network", "message", "codes"),
    [
        ("codes_siren", "codes must be [B, 4], got None", None),
        ("codes_siren", "codes must be [B, 4], got [3, 5]", torch.ones(3, 5)),
        ("codes_siren", "codes must be [B, 4], got [4]", torch.ones(4)),
        ("codes_siren", "coords must be [2, N, 3] or [N, 3], got [3, 7, 3]", torch.ones(2, 4)),
        (
            "siren_video",
            "codes must be None for networks without code_features, got [3, 4]",
            torch.ones(3, 4),
        ),
    ],
)
def test_errors_of_codes(network, message, codes):
    network = network_of(network)
    with pytest.raises(ValueError) as raised:
        network.make()(network.coords(), codes)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("network", "message", "sizes"),
    [
        (
            "siren_video",
            "a grid of y, x needs a network of 2 coordinates, got one of 3",
            ((4,), (4,), None),
        ),
        (
            "siren_image",
            "a grid of y, x, t needs a network of 3 coordinates, got one of 2",
            ((4,), (4,), (3,)),
        ),
        ("siren_video", "y must be [H], got [4, 4]", ((4, 4), (4,), (3,))),
        ("siren_video", "x must be [W], got [1, 4]", ((4,), (1, 4), (3,))),
        ("siren_video", "t must be [T] or [1, T], got [2, 3]", ((4,), (4,), (2, 3))),
        ("many_sirens", "t must be [T] or [3, T], got [2, 3]", ((4,), (4,), (2, 3))),
        ("siren_video", "t must be [T] or [1, T], got []", ((4,), (4,), ())),
    ],
)
def test_errors_of_grids(network, message, sizes):
    y, x, t = (None if size is None else torch.ones(size) for size in sizes)
    with pytest.raises(ValueError) as raised:
        network_of(network).make().on_grid(y, x, t)
    assert str(raised.value) == message
