"""DiffAugment against a loop over samples, frames and pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from digan.training.augment import AugmentDraws, diff_augment

CPU = torch.device("cpu")


def by_hand(pair: Tensor, color: Tensor, shift: Tensor) -> Tensor:
    """The rule for one pair [2, 3, H, W], step by step, frame by frame."""
    height, width = pair.shape[2:]
    out = torch.zeros_like(pair)
    brightness, saturation, contrast = color.tolist()
    rows, columns = shift.tolist()
    for frame in range(2):
        x = pair[frame] + (brightness - 0.5)
        grey = (x[0] + x[1] + x[2]) / 3
        x = (x - grey) * (2 * saturation) + grey
        mean = x.sum() / x.numel()
        x = (x - mean) * (contrast + 0.5) + mean
        for i in range(height):
            for j in range(width):
                if 0 <= i + rows < height and 0 <= j + columns < width:
                    out[frame, :, i, j] = x[:, i + rows, j + columns]
    return out


def some_pairs(batch: int = 5, height: int = 10, width: int = 8) -> Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.randn(batch, 2, 3, height, width, generator=source, dtype=torch.float64)


def some_draws(shifts: list[list[int]]) -> AugmentDraws:
    source = torch.Generator().manual_seed(2)
    color = torch.rand(len(shifts), 3, generator=source, dtype=torch.float64)
    return AugmentDraws(color, torch.tensor(shifts))


SHIFTS = [[0, 0], [3, -2], [-3, 2], [10, 0], [1, 7]]


def test_equals_the_loop():
    pairs, draws = some_pairs(), some_draws(SHIFTS)
    ours = diff_augment(pairs, draws)
    for b in range(len(SHIFTS)):
        expected = by_hand(pairs[b], draws.color[b], draws.shift[b])
        torch.testing.assert_close(ours[b], expected, rtol=1e-12, atol=1e-12)
    assert not ours[3].any()  # shifted by the whole height
    assert ours[1].any()


def test_shift_counts_rows_first_and_samples_from_ahead():
    pair = torch.zeros(1, 2, 3, 6, 6, dtype=torch.float64)
    pair[:, :, :, 4, 3] = 1.0
    draws = AugmentDraws(torch.full((1, 3), 0.5, dtype=torch.float64), torch.tensor([[2, -1]]))
    out = diff_augment(pair, draws)
    # u = 0.5 leaves colours as they are; out[i, j] = x[i + 2, j - 1].
    assert out.nonzero()[:, 3:].unique(dim=0).tolist() == [[2, 4]]
    torch.testing.assert_close(out[0, 0, :, 2, 4], torch.ones(3, dtype=torch.float64))


def test_both_frames_share_the_draw_but_not_the_contrast_mean():
    pairs, draws = some_pairs(), some_draws(SHIFTS)
    still = pairs[:, :1].expand(-1, 2, -1, -1, -1)
    out = diff_augment(still, draws)
    assert torch.equal(out[:, 0], out[:, 1])
    # What a frame becomes does not depend on the other frame of its pair.
    first = diff_augment(pairs, draws)[:, 0]
    torch.testing.assert_close(out[:, 0], first, rtol=0, atol=0)


def test_no_draws_leave_the_frames_alone():
    pairs = some_pairs()
    assert diff_augment(pairs, None) is pairs


def test_is_differentiable_twice():
    pairs, draws = some_pairs(2, 4, 4).requires_grad_(), some_draws([[1, -1], [0, 2]])
    assert torch.autograd.gradcheck(lambda x: diff_augment(x, draws), pairs)
    assert torch.autograd.gradgradcheck(lambda x: diff_augment(x, draws) ** 2, pairs)


def test_keeps_the_dtype_of_the_frames():
    draws = AugmentDraws.sample(0, "x", range(2), 8, CPU)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert diff_augment(some_pairs(2, 8, 8).to(dtype), draws).dtype == dtype


def test_draws_are_a_function_of_seed_stream_and_number():
    whole = AugmentDraws.sample(7, "D/real", range(20), 32, CPU)
    parts = [AugmentDraws.sample(7, "D/real", range(i, i + 5), 32, CPU) for i in (0, 5, 10, 15)]
    assert torch.equal(torch.cat([p.color for p in parts]), whole.color)
    assert torch.equal(torch.cat([p.shift for p in parts]), whole.shift)
    for other in (
        AugmentDraws.sample(8, "D/real", range(20), 32, CPU),
        AugmentDraws.sample(7, "D/fake", range(20), 32, CPU),
        AugmentDraws.sample(7, "D/real", range(20, 40), 32, CPU),
    ):
        assert not (other.color == whole.color).any()
        assert not torch.equal(other.shift, whole.shift)


def test_take_chooses_samples():
    draws = AugmentDraws.sample(0, "x", range(6), 32, CPU)
    taken = draws.take(torch.tensor([4, 1]))
    assert torch.equal(taken.color, draws.color[[4, 1]])
    assert torch.equal(taken.shift, draws.shift[[4, 1]])


@pytest.mark.parametrize(("size", "reach"), [(32, 4), (64, 8), (128, 16), (256, 32)])
def test_shifts_reach_an_eighth_of_the_side_inclusive(size, reach):
    shift = AugmentDraws.sample(0, "shift", range(reach * 200), size, CPU).shift
    assert (shift.min(), shift.max()) == (-reach, reach)
    for axis in (0, 1):
        counts = torch.bincount(shift[:, axis] + reach, minlength=2 * reach + 1).double()
        expected = len(shift) / (2 * reach + 1)
        chi_squared = float(((counts - expected) ** 2 / expected).sum())
        assert chi_squared < 2 * reach + 6 * np.sqrt(4 * reach)  # mean + 6 deviations


def test_colours_are_uniform_and_independent():
    color = AugmentDraws.sample(0, "color", range(4000), 32, CPU).color.double()
    assert (color >= 0).all()
    assert (color < 1).all()
    torch.testing.assert_close(color.mean(dim=0), torch.full((3,), 0.5).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(
        color.var(dim=0), torch.full((3,), 1 / 12).double(), atol=0.005, rtol=0
    )
    correlation = torch.corrcoef(color.T) - torch.eye(3, dtype=torch.float64)
    assert correlation.abs().max() < 0.06
