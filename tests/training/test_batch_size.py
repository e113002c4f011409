"""`--batch-gpu auto`: the largest pass that fits, found without touching the run."""

from __future__ import annotations

import gc
import re
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from digan.config import PRESETS, TrainConfig, resolve
from digan.errors import DiganError
from digan.processes import World
from digan.training import batch_size, checkpoint
from digan.training.batch_size import (
    CountedMemory,
    CudaCard,
    TriedMemory,
    available_memory,
    candidates,
    largest_pass,
    settle_batch_gpu,
)
from digan.training.live_memory import LiveBytes, PhaseWork, peak_bytes
from digan.training.loop import train
from digan.training.networks import make_networks
from tests.tiny_runs import tiny_config
from tests.training.stages import real_batch, stage_config, stage_trainer

CPU = torch.device("cpu")
HUGE = 1 << 40


class SmallCard:
    """A device of so many bytes: an operation that takes more ends as it does on a GPU."""

    name = "a small card"

    def __init__(self, size: int) -> None:
        self.size, self.most, self.now = size, 0, LiveBytes()
        self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1
        self.most = 0

    def free(self) -> int:
        return self.size

    def peak(self) -> int:
        return self.most

    def watch(self, work: PhaseWork) -> None:
        """Makes the phases run within this card."""
        run, card = work.run, self

        class Within(LiveBytes):
            def _add(self, storage):
                super()._add(storage)
                card.most = max(card.most, self.now)
                if self.now > card.size:
                    raise torch.OutOfMemoryError("CUDA out of memory")

        def within(phase: str, samples: int) -> None:
            with Within():
                run(phase, samples)

        work.run = within  # type: ignore[method-assign]


def on_card(trainer, size: int) -> tuple[TriedMemory, SmallCard]:
    card = SmallCard(size)
    memory = TriedMemory(trainer, card)
    card.watch(memory.work)
    return memory, card


def taken(trainer, samples: int) -> int:
    """What the phases take at most, one after the other with all gradients kept."""
    memory, card = on_card(trainer, HUGE)
    needed = memory.needs(samples)
    assert needed == card.most or needed is not None
    assert needed is not None
    return needed


# ---------------------------------------------------------------- the search


@pytest.mark.parametrize("cond", [False, True])
@pytest.mark.parametrize("wanted", [4, 8, 16])
def test_the_largest_that_fits(wanted, cond):
    """A card that holds just this many samples' phases, beside the share that is kept free."""
    trainer = stage_trainer(cond=cond, dtype=torch.float32)
    size = int(taken(trainer, wanted) / batch_size.GPU_SHARE) + 1
    memory, _ = on_card(trainer, size)
    sizes = candidates(trainer.config)
    assert sizes == [4, 8, 16]
    assert largest_pass(memory, sizes)[0] == wanted


def test_a_card_that_holds_nothing():
    trainer = stage_trainer()
    memory, card = on_card(trainer, taken(trainer, 4) // 2)
    with pytest.raises(
        DiganError, match=r"the smallest pass, of 4 samples, needs more .*recompute"
    ):
        largest_pass(memory, [4, 8, 16])
    assert card.restarts >= 3


def test_a_library_that_could_not_allocate(monkeypatch):
    memory, _ = on_card(stage_trainer(), HUGE)

    def run(phase: str, samples: int) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED" if samples > 4 else "no")

    monkeypatch.setattr(memory.work, "run", run)
    assert memory.needs(8) is None
    with pytest.raises(RuntimeError, match="no"):  # any other failure is no question of size
        memory.needs(4)


def test_nothing_of_the_trainer_changes():
    trainer = stage_trainer(cond=True)
    trainer.iteration(*real_batch())  # with moments and statistics to lose
    for network in (trainer.generator, trainer.discriminator):
        network.zero_grad(set_to_none=True)

    def everything() -> list[torch.Tensor]:
        found = []
        for part in (trainer.generator, trainer.discriminator, trainer.average):
            found += part.state_dict().values()
        for optimizer in (trainer.g_optimizer, trainer.d_optimizer):
            for state in optimizer.state.values():
                found += state.values()
        found += trainer.statistics._sums.values()
        found += [trainer.g_guard._bad, trainer.d_guard._bad, torch.get_rng_state()]
        return [t.clone() for t in found]

    before = everything()
    counts = dict(trainer.statistics._counts)
    memory, card = on_card(trainer, HUGE)
    card.size = taken(trainer, 8)  # 16 runs out in the middle of a phase
    assert memory.needs(16) is None
    assert memory.needs(8) is not None
    after = everything()
    assert len(before) == len(after)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert trainer.statistics._counts == counts
    assert trainer.seen == trainer.config.batch
    for network in (trainer.generator, trainer.discriminator):
        assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_moments_that_are_not_there_yet_count():
    trainer = stage_trainer(dtype=torch.float32)
    held = TriedMemory(trainer, SmallCard(HUGE))._held
    both = [*trainer.generator.parameters(), *trainer.discriminator.parameters()]
    assert sum(t.numel() for t in held) == 2 * sum(p.numel() for p in both)
    trainer.iteration(*real_batch())
    assert TriedMemory(trainer, SmallCard(HUGE))._held == []


class Told:
    """A memory that holds up to so many samples."""

    limit, how = 10, "told"

    def __init__(self, most: int) -> None:
        self.most, self.asked = most, []

    def needs(self, samples: int) -> int | None:
        self.asked.append(samples)
        return 5 if samples <= self.most else None


@pytest.mark.parametrize("most", [1, 2, 3, 30, 60, 64])
def test_few_questions(most):
    sizes = [n for n in range(1, 61) if 60 % n == 0]
    memory = Told(most)
    chosen, _ = largest_pass(memory, sizes)
    assert chosen == max(n for n in sizes if n <= most)
    assert len(memory.asked) <= 5
    assert memory.asked[0] == 60


class Beside(World):
    """A process whose only other one has room for 8 samples."""

    def sum_(self, tensors) -> None:
        for tensor in tensors:
            tensor += torch.tensor([1.0, 1.0, 0.0])


def test_the_smallest_process_decides():
    assert largest_pass(Told(16), [4, 8, 16], Beside(0, 2))[0] == 8
    assert largest_pass(Told(4), [4, 8, 16], Beside(0, 2))[0] == 4
    with pytest.raises(DiganError, match="smallest pass"):
        largest_pass(Told(2), [4, 8, 16], Beside(0, 2))


def test_sizes_that_give_the_same_result():
    assert candidates(TrainConfig()) == [4, 8, 16, 32, 64]
    assert candidates(TrainConfig(), processes=4) == [4, 8, 16]
    assert candidates(TrainConfig(batch=24)) == [4, 8, 12, 24]
    assert candidates(TrainConfig(batch=2)) == [2]  # a group is the whole batch


# ---------------------------------------------------------------- on a CPU, by counting


def test_counted_bytes_are_those_of_a_real_pass():
    """Twice the samples, and the same phases on tensors with numbers."""
    config = replace(stage_config(), batch_gpu=4)
    trainer = stage_trainer(dtype=torch.float32)
    there = PhaseWork(trainer.generator, trainer.discriminator, config)
    meta = PhaseWork.on_meta(config)
    for phase in PhaseWork.PHASES:
        found = []
        for samples in (4, 8):
            found.append([])
            for work in (meta, there):
                found[-1].append(peak_bytes(lambda: work.run(phase, samples)))  # noqa: B023
                work.clear()
            # A CPU's kernels have tiles of their own.
            assert 0.9 < found[-1][0] / found[-1][1] < 1.1, (phase, found)
        assert 1.5 < found[1][1] / found[0][1] < 2.1, (phase, found)


def test_a_run_on_a_cpu_counts():
    config = replace(resolve(PRESETS["tiny"], resolution=64, num_classes=0), batch=32)
    config = replace(config, batch_gpu="auto")
    needs = {n: CountedMemory(replace(config, batch_gpu=4), HUGE).needs(n) for n in (8, 16)}
    assert needs[8] < needs[16] < 2.2 * needs[8]

    def memory(_: TrainConfig) -> CountedMemory:
        return CountedMemory(config, int(needs[8] * 1.05 / batch_size.CPU_SHARE))

    settled, said = settle_batch_gpu(config, device=CPU, make_memory=memory)
    assert settled == replace(config, batch_gpu=8)
    assert re.fullmatch(
        r"batch-gpu auto: 8 of 32 samples a pass: needs \d+\.\d+ GB of \d+\.\d+ GB "
        r"\(85% of the \d+\.\d GB available, by counting\); 16 would need \d+\.\d+ GB",
        said,
    )
    assert settle_batch_gpu(settled, device=CPU) == (settled, "")


def test_recomputation_fits_more():
    config = replace(resolve(PRESETS["official"], resolution=128, num_classes=0), batch_gpu=8)
    kept = CountedMemory(config, HUGE).needs(8)
    again = CountedMemory(replace(config, recompute=True), HUGE).needs(8)
    assert again < kept / 2


def test_the_message_of_several_processes_is_counted():
    """The generator's is as large as its parameters; no activation is made smaller by it."""
    config = replace(resolve(PRESETS["tiny"], resolution=64, num_classes=0), batch_gpu=4)
    alone, among = (CountedMemory(config, HUGE, processes) for processes in (1, 4))
    with torch.device("meta"):
        generator, discriminator = make_networks(config, torch.device("meta"), "auto")
    sizes = [4 * sum(p.numel() for p in n.parameters()) for n in (generator, discriminator)]
    assert among.needs(4) - alone.needs(4) in range(min(sizes), max(sizes) + 1)


def files(root: Path, **contents: str) -> None:
    for name, text in contents.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_available_memory(tmp_path):
    proc, control = tmp_path / "proc", tmp_path / "control"
    files(proc, meminfo="MemTotal: 9000 kB\nMemAvailable:   8000 kB\n")
    assert available_memory(proc, control) == 8000 * 1024
    # The newer form of control groups: a limit above the process's own group counts too.
    files(proc, self__cgroup="0::/outer/inner\n")
    for folder, most, used in (("", "max", "0"), ("inner__", "max", "1000")):
        name = f"outer__{folder}"
        files(control, **{f"{name}memory_dot_max": f"{most}\n"})
        files(control, **{f"{name}memory_dot_current": f"{used}\n"})
    assert available_memory(proc, control) == 8000 * 1024
    files(control, outer__memory_dot_max="5000000\n", outer__memory_dot_current="2000000\n")
    files(control, outer__memory_dot_stat="anon 1\ninactive_file 500000\n")
    assert available_memory(proc, control) == 3500000
    # The older one.
    files(proc, self__cgroup="4:memory:/job\n3:cpu,cpuacct:/job\n0::/outer/inner\n")
    files(control, memory__job__memory_dot_limit_in_bytes="1000000\n")
    files(control, memory__job__memory_dot_usage_in_bytes="400000\n")
    assert available_memory(proc, control) == 600000
    with pytest.raises(DiganError, match="does not say how much memory"):
        available_memory(tmp_path / "nowhere", control)


# ---------------------------------------------------------------- continuation


def state_of(config: TrainConfig) -> dict:
    from digan.config import to_dict

    return {"config": to_dict(config), "data": "d"}


def test_a_continuation_keeps_the_number():
    state = state_of(TrainConfig(batch_gpu=16))
    asked = TrainConfig(batch_gpu="auto")
    checkpoint.check_same_settings(state, asked, "d", Path("run"))
    config, said = checkpoint.continued_batch_gpu(state, asked)
    assert config.batch_gpu == 16
    assert "continues with 16 samples a pass" in said
    assert checkpoint.continued_batch_gpu(state, config) == (config, "")


def test_another_number_may_continue_where_groups_are_whole():
    state = state_of(TrainConfig(batch_gpu=16))
    checkpoint.check_same_settings(state, TrainConfig(batch_gpu=8), "d", Path("run"))
    checkpoint.check_same_settings(state, TrainConfig(), "d", Path("run"))
    with pytest.raises(DiganError, match="batch_gpu 16 -> 2"):
        checkpoint.check_same_settings(state, TrainConfig(batch_gpu=2), "d", Path("run"))
    first, second = stage_trainer(batch_gpu=4), stage_trainer(batch_gpu=8)
    then, now = checkpoint.surroundings(first), checkpoint.surroundings(second)
    assert {k for k in then if then[k] != now[k]} == {"batch_gpu"}


def test_a_run_says_what_it_found(store, few_samples, tmp_path):
    """From the first line to a continuation that keeps the number."""
    config = tiny_config(batch=8, batch_gpu="auto", kimg=0.008, tick=0.008, snap=0.008)
    first = train(config, store, tmp_path, device="cpu", progress=False)
    assert "batch-gpu auto: 8 of 8 samples a pass: needs" in (first.run / "log.txt").read_text()
    assert "batch_gpu: 8\n" in (first.run / "config.yaml").read_text()
    config = replace(config, kimg=0.016, recompute=True)
    train(config, store, tmp_path, resume=str(first.run), device="cpu", progress=False)
    said = (first.run / "log.txt").read_text()
    assert "batch-gpu auto: continues with 8 samples a pass" in said
    assert "not bit-identical to an unbroken run: recompute False -> True" in said


# ---------------------------------------------------------------- on a GPU


def test_what_the_card_asks(monkeypatch):
    """A stand-in for `torch.cuda`: which figure is whose."""
    asked = []
    for name, value in {
        "get_device_name": "some card",
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "mem_get_info": (700, 1000),
        "memory_reserved": 200,
        "max_memory_reserved": 250,
    }.items():
        monkeypatch.setattr(
            torch.cuda, name, lambda *_, name=name, value=value: asked.append(name) or value
        )
    card = CudaCard(torch.device("cuda"))
    card.restart()
    assert asked[1:] == ["synchronize", "empty_cache", "reset_peak_memory_stats"]
    assert (card.name, card.free(), card.peak()) == ("some card", 900, 250)


@pytest.mark.gpu
def test_trials_on_a_gpu():
    """A part of the memory is taken away, so that few samples are left."""
    config = resolve(PRESETS["official"], resolution=128, num_classes=0)
    config = replace(config, batch_gpu="auto", kernels="reference")
    device = torch.device("cuda")
    free = torch.cuda.mem_get_info()[0]
    held = torch.empty(max(0, free - (16 << 30)), dtype=torch.uint8, device=device)
    settled, said = settle_batch_gpu(config, device=device)
    assert settled.batch_gpu in (4, 8, 16)
    assert "by trial" in said
    more, _ = settle_batch_gpu(replace(config, recompute=True), device=device)
    assert more.part > settled.part
    del held


def test_the_trainer_of_the_search_is_gone():
    """Its memory would be missing in the run."""
    trainer = stage_trainer()
    memory, _ = on_card(trainer, HUGE)
    memory.needs(4)
    known = weakref.ref(trainer)
    gc.disable()
    try:
        del trainer, memory
        assert known() is None
    finally:
        gc.enable()
