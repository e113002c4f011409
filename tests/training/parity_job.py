"""One of several processes whose training, messages and metrics are compared with one process's.

    torchrun --nproc-per-node 2 -m tests.training.parity_job FOLDER

The first process writes what all of them found to FOLDER/found.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from digan.metrics import RealReference, own_batches
from digan.processes import RepeatedSum, Vote, World, joined
from digan.training import checkpoint
from digan.training.step import Trainer
from tests.training.stages import BATCH, SIZE, gradients, stage_trainer

STEPS = 10
CLIPS, CLIP_BATCH = 11, 2  # the last batch is a half one, and one process of four has fewer


def batch_of(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Real samples of an iteration: uint8 frames, time differences, labels."""
    source = np.random.default_rng(100 + number)
    frames = source.integers(0, 256, (BATCH, 2, 3, SIZE, SIZE), dtype=np.uint8)
    times, labels = source.random(BATCH), source.integers(0, 3, BATCH)
    return torch.from_numpy(frames), torch.from_numpy(times), torch.from_numpy(labels)


def trained(world: World, dtype: torch.dtype, steps: int, **changes: Any) -> Trainer:
    """A trainer after some iterations on this process's samples."""
    trainer = stage_trainer(world, dtype, cond=True, **changes)
    for step in range(steps):
        trainer.iteration(*(values[trainer.own] for values in batch_of(step)))
    return trainer


def weights(trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    return {
        name: getattr(trainer, name).state_dict()
        for name in ("generator", "discriminator", "average")
    }


def judged(world: World) -> dict[str, object]:
    """fd-random3d of random clips, of which every process brings its batches."""
    source = np.random.default_rng(3)
    real, fake = source.integers(0, 256, (2, CLIPS, 4, 32, 32, 3), dtype=np.uint8)
    shares = (fake[own.start : own.stop] for own in own_batches(CLIPS, CLIP_BATCH, world))
    result = RealReference.from_clips(real).evaluate(shares, world).to_json()["results"]
    assert isinstance(result, dict)
    return result


def shared(world: World) -> float:
    """How far a process whose state was another is from the first after sharing it."""
    trainer = stage_trainer(world, d_reg_interval=1, gamma=1.0 + world.rank)
    if world.is_first:
        for step in range(2):  # alone, so that moments and position differ from the others'
            alone = stage_trainer(World())
            alone.iteration(*batch_of(step))
        checkpoint.restore(trainer, checkpoint.state_of(alone, "data"))
    checkpoint.share_state(trainer)
    moments = [
        value
        for optimizer in (trainer.g_optimizer, trainer.d_optimizer)
        for state in optimizer.state_dict()["state"].values()
        for value in state.values()
    ]
    numbers = [float(trainer.seen), float(len(moments))]
    numbers += [float(v.double().sum()) for v in moments]
    numbers += [float(v.double().sum()) for d in weights(trainer).values() for v in d.values()]
    everywhere = world.gather(numbers)
    assert len(moments) > 0
    return max(abs(a - b) for each in everywhere for a, b in zip(each, everywhere[0], strict=True))


def summed(world: World) -> list[list[float]]:
    """Tensors of odd sizes and of another layout, summed twice by one message."""
    like = [torch.zeros(3), torch.zeros(2, 3, 4, 4), torch.zeros(8), torch.zeros(1, 5)]
    like[1] = like[1].contiguous(memory_format=torch.channels_last)
    total = RepeatedSum(world, like)
    for factor in (5.0, 1.0):  # nothing of the first sum may be in the second
        tensors = [
            factor * (world.rank + torch.arange(float(t.numel())).view(t.shape)) for t in like
        ]
        sums = total(tensors)
    assert [s.stride() for s in sums] == [t.stride() for t in like]
    assert total.bytes == 4 * sum(t.numel() for t in like)
    return [s.flatten().tolist() for s in sums]


def messages(world: World) -> dict[str, Any]:
    """What every message brings, and whether all processes got the same."""
    rank = world.rank
    rows = torch.full((rank, 3), float(rank), dtype=torch.float64)
    vote = Vote(world)
    answers = [vote(rank == 1 and turn == 1) for turn in range(4)]
    return {
        "told": world.gather(world.tell({"rank": rank, "text": "ä\n"})),
        "gathered": world.gather([rank, None]),
        "rows": [r.tolist() for r in world.gather_tensors(rows)],
        "dealt": world.deal(world.gather(list(world.share(range(7))))),
        "answers": world.gather([*answers, vote.close()]),
        "summed": world.gather(summed(world)),
    }


def main(folder: Path) -> None:
    with joined(torch.device("cpu")) as (world, _):
        free = trained(world, torch.float64, STEPS)
        single = trained(world, torch.float32, 1, batch_gpu=4)
        found = {
            "float64": weights(free),
            "float32": weights(single),
            "gradients": gradients(single.generator),
            "statistics": free.statistics.read(world),
            "numbers": world.gather(free.numbers(free.seen)),
            "judged": world.gather(judged(world)),
            "shared": shared(world),
            "messages": messages(world),
        }
        sums = [float(v.sum()) for v in free.generator.state_dict().values()]
        found["same"] = all(each == sums for each in world.gather(sums))
        if world.is_first:
            torch.save(found, folder / "found.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
