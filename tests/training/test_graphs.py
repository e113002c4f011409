"""Phases that are captured once and repeated: on static memory, and to the bit what calls do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from digan.config import TrainConfig
from digan.errors import DiganError
from digan.processes import World
from digan.training.graphs import CudaCapture, GraphedPhases, Work, why_not_graphs
from digan.training.inputs import Inputs, each_tensor
from digan.training.loop import train
from digan.training.step import Trainer
from tests.requirements import require
from tests.tiny_runs import tiny_config
from tests.training.stages import real_batch, stage_trainer

WARM_UPS, ITERATIONS = 1, 5  # R1, every other iteration, is captured in the third


def persistent(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors that a phase may find and leave."""
    found: dict[str, Tensor] = {"step": trainer._step}
    for name in ("generator", "discriminator", "average"):
        network = getattr(trainer, name)
        found |= {f"{name}.{k}": v for k, v in network.named_parameters()}
        found |= {f"{name}.{k}": v for k, v in network.named_buffers()}
    for name in ("g_optimizer", "d_optimizer"):
        for i, state in enumerate(getattr(trainer, name).state.values()):
            found |= {f"{name}.{i}.{k}": v for k, v in state.items()}
    for name in ("g_guard", "d_guard"):
        found |= {f"{name}.{k}": v for k, v in vars(getattr(trainer, name)).items() if k[0] == "_"}
    statistics = trainer.statistics
    found |= {f"sum.{k}": v for k, v in statistics._sums.items()}
    found |= {f"count.{k}": v for k, v in statistics._counts.items()}
    found |= {f"part.{i}": part for i, part in enumerate(trainer.parts)}
    if isinstance(trainer.phases, GraphedPhases):
        found |= {f"input.{k}": v for k, v in trainer.phases.inputs.places.items()}
    return found


class Reads(TorchDispatchMode):
    """Storages that operations read and that none of these operations has made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, Any] = {}  # kept, so that no address serves twice
        self.foreign: dict[int, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and _address(tensor) not in self.made:
                self.foreign.setdefault(_address(tensor), str(func))
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _address(tensor) not in self.foreign:
                self.made[_address(tensor)] = tensor.untyped_storage()
        return out


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class StandIn:
    """In the place of CUDA graphs: repeats the work, and watches what a graph would rest on."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.recorded = 0

    def warm_up(self, work: Work) -> None:
        work()

    def record(self, work: Work) -> Work:
        self.recorded += 1
        known = {name: _address(tensor) for name, tensor in persistent(self.trainer).items()}

        def replay() -> None:
            with Reads() as reads:
                work()
            strangers = {op for at, op in reads.foreign.items() if at not in known.values()}
            assert not strangers, f"a graph would read memory that is gone: {strangers}"
            now = {name: _address(tensor) for name, tensor in persistent(self.trainer).items()}
            assert {k: now[k] for k in known} == known
            late = {name for name in now.keys() - known.keys() if not name.startswith("input")}
            assert not late, f"made inside a graph: {late}"

        return replay


def run(trainer: Trainer, iterations: int = ITERATIONS) -> Iterator[dict[str, float]]:
    """Iterations whose inputs are worthless once they are done."""
    for step in range(iterations):
        frames, dt, label = real_batch(trainer.config.batch)
        inputs = trainer.prepare(frames.roll(step, -1), dt, label, trainer.seen)
        trainer.advance(inputs)
        each_tensor(inputs, _spoil)
        yield trainer.statistics.read()


def _spoil(_: str, tensor: Tensor) -> Tensor:
    return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor.zero_()


def small(**changes: Any) -> Trainer:
    return stage_trainer(dtype=torch.float32, batch=4, cond=True, **changes)


def differences(ours: Trainer, theirs: Trainer) -> list[str]:
    mine, expected = persistent(ours), persistent(theirs)
    return [k for k, v in expected.items() if not torch.equal(mine[k], v)]


@pytest.mark.parametrize("batch_gpu", [None, 2])
def test_repeated_phases_are_called_phases_to_the_bit(batch_gpu):
    called, repeated = small(batch_gpu=batch_gpu), small(batch_gpu=batch_gpu)
    stand_in = StandIn(repeated)
    repeated.phases = GraphedPhases(stand_in, pytest.fail, WARM_UPS)
    for ours, theirs in zip(run(repeated), run(called), strict=True):
        assert ours == theirs
    assert stand_in.recorded == 3
    assert differences(repeated, called) == []
    assert repeated.g_guard.read() == called.g_guard.read() == ([], 0)


def test_inputs_that_are_not_static_show():
    trainer = small()
    trainer.phases = phases = GraphedPhases(StandIn(trainer), pytest.fail, WARM_UPS)
    phases.load = lambda inputs: inputs  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="memory that is gone"):
        list(run(trainer, WARM_UPS + 1))


def test_a_guard_in_a_graph_names_the_right_step():
    trainer = small()
    trainer.phases = GraphedPhases(StandIn(trainer), pytest.fail, WARM_UPS)
    list(run(trainer, WARM_UPS + 2))
    bias = trainer.discriminator.get_parameter("video.epilogue.out.bias")
    bias.data[0] = float("nan")
    list(run(trainer, 1))
    sentences, in_a_row = trainer.d_guard.read()
    assert in_a_row == 1
    assert any(s.endswith(f"in 1 steps, first in step {WARM_UPS + 2}") for s in sentences)


class Refuses(StandIn):
    def record(self, work: Work) -> Work:
        self.recorded += 1
        self.trainer.discriminator.requires_grad_(False)
        raise RuntimeError("operation not permitted\nwhen stream is capturing")


def test_what_cannot_be_captured_is_said_once_and_called():
    called, refused = small(), small()
    said: list[str] = []
    refuses = Refuses(refused)
    refused.phases = GraphedPhases(refuses, said.append, WARM_UPS)
    list(run(refused))
    list(run(called))
    assert differences(refused, called) == []
    (line,) = said
    assert line.startswith("CUDA graphs: phase G cannot be captured (operation not permitted when")
    assert refuses.recorded == 1


def test_reasons():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert why_not_graphs("auto", cpu, World()) == "the device is cpu"
    assert why_not_graphs("off", gpu, World()) == "switched off by --cuda-graphs off"
    assert why_not_graphs("auto", gpu, World()) is None
    assert why_not_graphs("on", gpu, World()) is None
    with pytest.raises(DiganError, match="--cuda-graphs on cannot be kept: the device is cpu"):
        why_not_graphs("on", cpu, World())


def test_processes_whose_sums_wait_for_the_host(monkeypatch):
    gpu, two = torch.device("cuda"), World(0, 2)
    monkeypatch.setattr("torch.distributed.get_backend_config", lambda: "cpu:gloo,cuda:gloo")
    assert why_not_graphs("auto", gpu, two) == (
        "sums over processes by cpu:gloo,cuda:gloo wait for the host"
    )
    monkeypatch.setattr("torch.distributed.get_backend_config", lambda: "cpu:gloo,cuda:nccl")
    assert why_not_graphs("auto", gpu, two) is None


@pytest.mark.usefixtures("few_samples")
def test_a_run_says_why_it_has_none(store, tmp_path):
    done = train(tiny_config(kimg=0.004), store, tmp_path, device="cpu", progress=False)
    assert "CUDA graphs: none, the device is cpu" in (done.run / "log.txt").read_text()
    with pytest.raises(DiganError, match="the device is cpu"):
        train(tiny_config(cuda_graphs="on"), store, tmp_path / "no", device="cpu", progress=False)
    assert not (tmp_path / "no").exists()


# ---------------------------------------------------------------- nothing waits for the host


class Places(TorchDispatchMode):
    """Devices of all tensors that operations see."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, out)):
            if isinstance(tensor, Tensor):
                self.seen.setdefault(tensor.device.type, str(func))
        return out


class Step:
    """In the place of PyTorch's Adam, which knows no device without data."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        (self.group,) = optimizer.param_groups

    def step(self) -> None:
        gradients = [p.grad for p in self.group["params"]]
        assert all(g is not None for g in gradients)
        with torch.no_grad():
            torch._foreach_add_(self.group["params"], gradients, alpha=-1e-3)


def dataless(**changes: Any) -> tuple[Trainer, list[Inputs]]:
    """A trainer on a device whose tensors have no numbers, and inputs that are there already.

    Whoever asks such a tensor for a number, for the places of its nonzeros, or copies it to the
    host gets an error; a tensor of the host's shows.
    """
    config: TrainConfig = replace(small().config, **changes)
    trainer = Trainer(config, labels=small().labels, device="meta")
    trainer.g_optimizer = Step(trainer.g_optimizer)  # type: ignore[assignment]
    trainer.d_optimizer = Step(trainer.d_optimizer)  # type: ignore[assignment]
    size = config.batch
    return trainer, [trainer.prepare(*real_batch(size), i * size) for i in range(2)]


@pytest.mark.parametrize(("precision", "batch_gpu"), [("fp32", None), ("bf16", 2)])
def test_no_iteration_asks_the_device_for_anything(precision, batch_gpu):
    trainer, inputs = dataless(precision=precision, batch_gpu=batch_gpu)
    with Places() as places:
        for each in inputs:
            trainer.advance(each)
    assert [each.regularize for each in inputs] == [True, False]
    assert places.seen.keys() == {"meta"}, places.seen


def test_one_question_would_be_seen():
    trainer, (inputs, *_) = dataless()
    original = trainer.statistics.add

    def ask(name: str, values: Tensor) -> None:
        original(name, values)
        values.sum().item()

    trainer.statistics.add = ask  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="meta"):
        trainer.advance(inputs)


# ---------------------------------------------------------------- on a GPU


def on_gpu(**changes: Any) -> Trainer:
    if not torch.cuda.is_available():
        require("gpu", "no CUDA device is visible")
    config = replace(small().config, **changes)
    return Trainer(config, labels=small().labels, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_graphs_on_a_gpu(precision):
    called, repeated = on_gpu(precision=precision), on_gpu(precision=precision)
    repeated.phases = phases = GraphedPhases(CudaCapture(repeated.device), pytest.fail, WARM_UPS)
    for ours, theirs in zip(run(repeated), run(called), strict=True):
        assert ours == theirs
    assert phases.graphs.keys() == {"G", "D", "R1"}
    assert differences(repeated, called) == []


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [False, True])
def test_nothing_waits_on_a_gpu(graphs):
    trainer = on_gpu(precision="bf16")
    if graphs:
        trainer.phases = GraphedPhases(CudaCapture(trainer.device), pytest.fail, WARM_UPS)
    list(run(trainer))  # algorithms are chosen and graphs captured, which waits
    batches = [trainer.prepare(*real_batch(4), trainer.seen + 4 * i) for i in range(4)]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for inputs in batches:
            trainer.advance(inputs)
        trainer.prepare(*real_batch(4), trainer.seen)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.statistics.read()["G/loss"] > 0
