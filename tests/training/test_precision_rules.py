"""What stays in float32 whatever the precision, seen in the operations of the phases themselves.

Every tensor operation of a bf16 iteration is taken down with the module in which it ran. The
formulas show all their operations; the ops of `digan.ops` show their inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from digan.training.losses import RealPairs
from digan.training.statistics import Statistics
from digan.training.step import Trainer
from tests.nn.tiny import noise, randomised, tiny_discriminators
from tests.training.teacher import cloud_pairs

BATCH, SIZE = 4, 64
NARROW, WIDE = torch.bfloat16, torch.float32
KERNELS = ("reference", "auto")


@dataclass(frozen=True)
class Seen:
    """An operation: where it ran, and the floating-point tensors that it read and wrote."""

    module: str
    name: str
    tensors: tuple[tuple[torch.dtype, tuple[int, ...]], ...]

    @property
    def dtypes(self) -> set[torch.dtype]:
        return {dtype for dtype, _ in self.tensors}

    @property
    def shapes(self) -> set[tuple[int, ...]]:
        return {shape for _, shape in self.tensors}


class Watch(TorchDispatchMode):
    """Takes down every operation; `module` is the innermost one whose forward pass runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []
        self.running = [""]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [
            (t.dtype, tuple(t.shape))
            for t in tree_leaves((args, kwargs, out))
            if isinstance(t, Tensor) and t.is_floating_point()
        ]
        self.seen.append(Seen(self.running[-1], func._schema.name, tuple(tensors)))
        return out

    def named(self, *names: str) -> list[Seen]:
        """The operations of these names; there must be some."""
        found = [s for s in self.seen if s.name in names]
        assert found, f"none of {names} was seen"
        return found

    def inside(self, module: str) -> list[Seen]:
        """The operations of a module and those in it; there must be some."""
        found = [s for s in self.seen if f"{s.module}.".startswith(f"{module}.")]
        assert found, f"{module} ran no operation"
        return found


@contextmanager
def watched(**networks: nn.Module) -> Iterator[Watch]:
    """Operations of networks, each under the name that it is given here."""
    watch, handles = Watch(), []
    for root, network in networks.items():
        for name, module in network.named_modules(prefix=root):
            enter = module.register_forward_pre_hook(
                lambda _, args, name=name: watch.running.append(name)
            )
            leave = module.register_forward_hook(lambda _, args, out: watch.running.pop() and None)
            handles += [enter, leave]
    try:
        with watch:
            yield watch
    finally:
        for handle in handles:
            handle.remove()


def narrow(seen: list[Seen]) -> list[Seen]:
    """Those that touch anything but float32."""
    return [s for s in seen if s.dtypes - {WIDE}]


def small_trainer(kernels: Any) -> Trainer:
    """bf16, 64 pixels."""
    config = TrainConfig(
        resolution=SIZE,
        clip_frames=4,
        batch=BATCH,
        precision="bf16",
        kernels=kernels,
        generator=GeneratorConfig(
            resolution=SIZE, latent_dim=12, channel_base=512, channel_max=8, frequencies=8, rank=3
        ),
        discriminator=DiscriminatorConfig(resolution=SIZE, channel_base=512, channel_max=8),
    )
    trainer = Trainer(config)
    randomised(trainer.generator, 1)
    randomised(trainer.discriminator, 2)
    return trainer


class Reported(Statistics):
    """Dtypes of what the phases report."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: dict[str, torch.dtype] = {}

    def add(self, name: str, values: Tensor) -> None:
        self.dtypes[name] = values.dtype


@dataclass(frozen=True)
class Iteration:
    """What was seen in the phases of one iteration, and what it left behind."""

    trainer: Trainer
    phases: dict[str, Watch]
    reported: dict[str, torch.dtype]
    pictures: list[Tensor]  # after every block of the generator


@pytest.fixture(scope="module", params=KERNELS)
def iteration(request: pytest.FixtureRequest) -> Iteration:
    trainer = small_trainer(request.param)
    trainer.statistics = reported = Reported()
    indices = range(BATCH)
    real = trainer._reals(*cloud_pairs(trainer.config, 0), None, "D/real", indices)
    again = RealPairs(real.frames, real.dt, None, trainer._augment("R1", indices))
    fakes = {phase: trainer._fakes(phase, indices) for phase in ("G", "D")}
    phases = {
        "G": lambda: trainer.train_generator(fakes["G"]),
        "D": lambda: trainer.train_discriminator(fakes["D"], real),
        "R1": lambda: trainer.regularize_discriminator(again),
        "average": trainer.update_average,
    }
    pictures: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _, args, out: pictures.append(out[1].detach()))
        for block in trainer.generator.blocks
    ]
    networks = {
        "generator": trainer.generator,
        "video": trainer.discriminator.video,
        "image": trainer.discriminator.image,
    }
    seen = {}
    for name, run in phases.items():
        with watched(**networks) as watch:
            steps = [
                step
                for optimizer in (trainer.g_optimizer, trainer.d_optimizer)
                for step in (
                    optimizer.register_step_pre_hook(lambda *_: watch.running.append("adam")),
                    optimizer.register_step_post_hook(lambda *_: watch.running.pop() and None),
                )
            ]
            run()
        for handle in steps:
            handle.remove()
        seen[name] = watch
        if name == "G":
            for hook in hooks:
                hook.remove()
    return Iteration(trainer, seen, reported.dtypes, pictures)


each_phase = pytest.mark.parametrize("phase", ["G", "D", "R1"])
each_network = pytest.mark.parametrize("network", ["video", "image"])


@each_phase
@each_network
def test_the_end_of_a_discriminator(iteration, phase, network):
    """Everything forward is wide, and the end backward too; the 3x3 products backward are not."""
    watch = iteration.phases[phase]
    assert not narrow(watch.inside(network))
    tail = watch.inside(f"{network}.epilogue")
    assert not narrow(tail)
    assert (BATCH if network == "video" else 2 * BATCH,) in {s for t in tail for s in t.shapes}
    statistic = [s for s in tail if s.module == f"{network}.epilogue" and s.name == "aten::sqrt"]
    assert statistic
    kinds: dict[torch.dtype, set[bool]] = {NARROW: set(), WIDE: set()}
    for seen in watch.named("aten::convolution_backward"):
        (dtype,) = seen.dtypes
        # The epilogue's convolution is the one with the statistic's channel more.
        kinds[dtype].add(any(s[2:] == (3, 3) and s[1] == s[0] for s in seen.shapes))
    assert kinds == {NARROW: {True}, WIDE: {False}}


def test_a_narrow_end_would_be_seen():
    """The watch itself: a discriminator whose parameters are narrow."""
    network = tiny_discriminators(SIZE).to(NARROW)
    with watched(net=network) as watch:
        network(noise(BATCH, 2, 3, SIZE, SIZE, seed=0, dtype=NARROW), torch.ones(BATCH))
    for module in ("net.video.blocks.3", "net.image.epilogue"):
        found = narrow(watch.inside(module))
        assert {NARROW} == set().union(*(s.dtypes for s in found))


@each_phase
def test_logits_and_losses(iteration, phase):
    watch = iteration.phases[phase]
    if phase != "R1":
        assert not narrow(watch.named("aten::softplus", "aten::softplus_backward"))
    assert set(iteration.reported.values()) == {WIDE}
    wanted = {"G/loss", "D/fake_loss", "D/real_loss", "G/video_logit", "D/real_image_logit"}
    assert wanted | {"D/r1_video", "D/r1_image"} <= set(iteration.reported)


def test_sums_of_r1(iteration):
    """Squared input gradients of both discriminators, and their sums over channels and pixels."""
    watch = iteration.phases["R1"]
    for shape in ((BATCH, 7, SIZE, SIZE), (2 * BATCH, 3, SIZE, SIZE)):
        for name in ("aten::pow", "aten::sum"):
            found = [s for s in watch.named(name) if s.module == "" and shape in s.shapes]
            assert found, (name, shape)
            assert not narrow(found)


def test_picture(iteration):
    """Colours are accumulated in float32, beyond what bfloat16 can hold."""
    pictures = iteration.pictures
    assert len(pictures) == 5
    assert all(p.dtype == WIDE for p in pictures)
    for picture in pictures[1:]:
        assert not torch.equal(picture, picture.to(NARROW).to(WIDE))
    watch = iteration.phases["G"]
    products = watch.named("aten::bmm", "aten::baddbmm", "digan::modulated_linear")
    inside = [s for s in products if s.module.startswith("generator.blocks.")]
    assert NARROW in set().union(*(s.dtypes for s in inside))


@pytest.mark.parametrize("phase", ["G", "D"])
def test_row_norms_of_modulated_weights(iteration, phase):
    watch = iteration.phases[phase]
    layers = sum(len(block.layers) for block in iteration.trainer.generator.blocks)
    names = ("aten::linalg_vector_norm", "digan::factorized_modulation")
    found = watch.named(*names)
    assert len(found) == layers
    assert not narrow(found)


@each_phase
def test_mapping_and_embeddings(iteration, phase):
    """Codes, frequencies and phases; a narrow phase would be a wrong frame."""
    if phase == "R1":
        assert not [s for s in iteration.phases[phase].seen if s.module.startswith("generator")]
        return
    watch = iteration.phases[phase]
    assert not narrow(watch.inside("generator.mapping"))
    for block in (0, 4):
        assert not narrow(watch.inside(f"generator.blocks.{block}.embedding"))


@each_phase
def test_adam(iteration, phase):
    assert not narrow(iteration.phases[phase].inside("adam"))
    for optimizer in (iteration.trainer.g_optimizer, iteration.trainer.d_optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                dtypes = {parameter.dtype, parameter.grad.dtype}
                dtypes |= {state[n].dtype for n in ("exp_avg", "exp_avg_sq")}
                assert dtypes == {WIDE}


def test_average(iteration):
    watch = iteration.phases["average"]
    assert watch.seen
    assert not narrow(watch.seen)
    assert {p.dtype for p in iteration.trainer.average.state_dict().values()} == {WIDE}
