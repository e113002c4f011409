"""TMA: boxes against an independent model of where each chunk goes, tensor maps against the rules
of the driver's documentation, and what a kernel forgets."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng()
SPANS = {0: None, 1: 32, 2: 64, 3: 128}  # bytes of a swizzle


def memory_of(count, offset):
    """Random bytes, so that byte `offset` of them is a multiple of 16."""
    raw = RNG.integers(0, 256, count + offset + 16, dtype=np.uint8)
    skip = -(raw.ctypes.data + offset) % 16
    return raw[skip : skip + offset + count]


def strides_of(extents, number_bytes, padding):
    """Of a tensor whose rows and planes are that much longer than they need, in whole chunks."""
    chunk = 16 // number_bytes
    strides = [1]
    for extent in extents[:-1]:
        least = strides[-1] * extent
        strides.append((least + chunk - 1) // chunk * chunk + padding * chunk)
    return strides


def logical_box(memory, number_bytes, extents, strides, box, place):
    """The box's numbers as rows of bytes of its innermost axis; zeros outside."""
    rank = len(extents)
    shape = [*box[::-1], number_bytes]
    found = np.zeros(shape, np.uint8)
    for index in np.ndindex(*box[::-1]):
        at = [place[i] + index[rank - 1 - i] for i in range(rank)]
        if all(0 <= a < e for a, e in zip(at, extents, strict=True)):
            begin = number_bytes * sum(a * s for a, s in zip(at, strides, strict=True))
            found[index] = memory[begin : begin + number_bytes]
    return found.reshape(-1, box[0] * number_bytes)


def shared_image(rows, swizzle):
    """Chunks of row r change places by the number of the 128-byte line that it is in."""
    if swizzle == 0:
        return rows.ravel()
    span = SPANS[swizzle]
    chunks = span // 16
    image = np.empty_like(rows).reshape(len(rows), chunks, 16)
    for r, row in enumerate(rows.reshape(len(rows), chunks, 16)):
        line = r * span // 128
        for c in range(chunks):
            image[r, c ^ (line % chunks)] = row[c]
    return image.ravel()


def draw_tensor(number_bytes, swizzle, axes):
    inner = (
        SPANS[swizzle] // number_bytes if swizzle else int(RNG.integers(1, 9)) * 16 // number_bytes
    )
    box = [inner, *(int(n) for n in RNG.integers(1, 13 if axes < 4 else 5, axes - 1))]
    extents = [int(RNG.integers(1, 2 * b + 3)) for b in box]
    return extents, box


CASES = [(n, s, a) for n in (2, 4) for s in range(4) for a in (2, 3)]


@pytest.mark.parametrize(
    ("number_bytes", "swizzle", "axes"), [*CASES, *((n, 3, 4) for n in (2, 4))]
)
def test_boxes_are_loaded(cases, number_bytes, swizzle, axes):
    """Also partly or wholly outside of the tensor, which is then read nowhere."""
    for seed in range(6):
        cases.set_seed(seed)
        extents, box = draw_tensor(number_bytes, swizzle, axes)
        strides = strides_of(extents, number_bytes, padding=int(RNG.integers(3)))
        used = number_bytes * (1 + sum((e - 1) * s for e, s in zip(extents, strides, strict=True)))
        offset = 16 * int(RNG.integers(3))
        memory = memory_of(used, offset)
        place = [int(RNG.integers(-b, e + 1)) for b, e in zip(box, extents, strict=True)]
        tensor = cases.Tensor(number_bytes, extents, strides, box, swizzle)
        cases.clear_launches()
        out = cases.load_box("none", memory, offset, tensor, place).view(np.uint8)
        rows = logical_box(memory[offset:], number_bytes, extents, strides, box, place)
        expected = shared_image(rows, swizzle)
        np.testing.assert_array_equal(out[: len(expected)], expected)
        np.testing.assert_array_equal(out[len(expected) :], expected)
        inside = [
            max(0, min(p + b, e) - max(p, 0)) for p, b, e in zip(place, box, extents, strict=True)
        ]
        record = cases.launches()[0]
        assert record["tma_loads"] == 2
        assert record["tma_load_bytes"] == 2 * number_bytes * int(np.prod(inside))
        assert record["global_read_bytes"] == record["tma_load_bytes"]


@pytest.mark.parametrize(("number_bytes", "swizzle", "axes"), CASES)
def test_boxes_are_stored(cases, number_bytes, swizzle, axes):
    """The numbers outside of the tensor are dropped, nothing else is written."""
    for seed in range(4):
        cases.set_seed(seed)
        extents, box = draw_tensor(number_bytes, swizzle, axes)
        extents[1] += box[1]  # so that two boxes stand beside each other
        strides = strides_of(extents, number_bytes, padding=1)
        used = number_bytes * (1 + sum((e - 1) * s for e, s in zip(extents, strides, strict=True)))
        memory = memory_of(used, 0)
        first = [int(RNG.integers(-b, e + 1)) for b, e in zip(box, extents, strict=True)]
        second = [first[0], first[1] + box[1], *first[2:]]
        tensor = cases.Tensor(number_bytes, extents, strides, box, swizzle)
        words = RNG.integers(0, 2**32, int(np.prod(box)) * number_bytes // 4, dtype=np.uint32)
        expected = memory.copy()
        for place, image in ((first, words), (second, words + np.uint32(1))):
            # Where each number lies in shared memory: the model's image of their own indices.
            count = int(np.prod(box))
            indices = np.zeros((count, number_bytes), np.uint8)
            indices[:, :2] = np.arange(count, dtype=np.uint16).view(np.uint8).reshape(count, 2)
            lies = shared_image(indices.reshape(-1, box[0] * number_bytes), swizzle)
            of_place = lies.reshape(count, number_bytes)[:, :2].copy().view(np.uint16).ravel()
            numbers = np.empty((count, number_bytes), np.uint8)
            numbers[of_place] = image.view(np.uint8).reshape(count, number_bytes)
            for n, index in enumerate(np.ndindex(*box[::-1])):
                at = [place[i] + index[axes - 1 - i] for i in range(axes)]
                if all(0 <= a < e for a, e in zip(at, extents, strict=True)):
                    begin = number_bytes * sum(a * s for a, s in zip(at, strides, strict=True))
                    expected[begin : begin + number_bytes] = numbers[n]
        cases.clear_launches()
        cases.store_boxes("none", memory, 0, tensor, first, second, words)
        np.testing.assert_array_equal(memory, expected)
        record = cases.launches()[0]
        assert record["tma_stores"] == 2
        assert record["tma_store_bytes"] == record["global_write_bytes"]


def small(cases, swizzle=3):
    extents, box = [128, 16], [64, 8]
    memory = memory_of(2 * 128 * 16, 0)
    return memory, cases.Tensor(2, extents, [1, 128], box, swizzle)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("fault", "report"),
    [
        ("no_wait", "which nobody wrote|before the asynchronous copy to it was waited for|"
         "without having waited for the copy that wrote it at the mbarrier at byte"),
        ("only_one_waits", "which nobody wrote|before the asynchronous copy to it was waited|"
         "without having waited for the copy that wrote it at the mbarrier at byte"),
        ("too_few_bytes", "deadlock: .*wait at the mbarrier at byte 0 of barriers, in phase 0 with "
         "0 arrivals and -16 bytes to come"),
        ("too_many_bytes", "deadlock: .*in phase 0 with 0 arrivals and 1 bytes to come"),
        ("no_fence_of_mbarrier", "which was made without a fence"),
        ("overwritten", "writes byte .* before the asynchronous copy|"
         "race: overwrites byte .* without having waited for the copy"),
        ("unfenced_before", "which thread 40 wrote, without its fence_proxy_async between"),
        ("leaves", "the block ended (while copies to its shared memory were|though nobody waited)"),
        ("misaligned", "misaligned: a copy by TMA at byte 64"),
    ],
)  # fmt: skip
def test_faults_of_loads_are_reported(cases, seed, fault, report):
    cases.set_seed(seed)
    memory, tensor = small(cases)
    with pytest.raises(RuntimeError, match=report):
        cases.load_box(fault, memory, 0, tensor, [64, 3])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("fault", "report"),
    [
        ("no_fence", "which thread .* wrote, without its fence_proxy_async between"),
        ("no_barrier", "race: reads byte|which nobody wrote|fence_proxy_async"),
        ("no_wait_for_store", "leaves the kernel before its stores have read shared memory"),
        ("wait_for_too_few", "leaves the kernel before its stores have read shared memory"),
        ("overwrites_stored", "writes byte 0 .* before the store that reads it was waited for"),
    ],
)  # fmt: skip
def test_faults_of_stores_are_reported(cases, seed, fault, report):
    cases.set_seed(seed)
    memory, tensor = small(cases)
    words = RNG.integers(0, 2**32, 256, dtype=np.uint32)
    with pytest.raises(RuntimeError, match=report):
        cases.store_boxes(fault, memory, 0, tensor, [0, 0], [0, 8], words)


def test_what_lies_outside_of_memory_is_reported(cases):
    memory, _ = small(cases)
    beyond = cases.Tensor(2, [128, 17], [1, 128], [64, 8], 3)
    with pytest.raises(RuntimeError, match="out of bounds: reads 16 bytes at byte 4096 of tensor"):
        cases.load_box("none", memory, 0, beyond, [0, 16])
    words = RNG.integers(0, 2**32, 256, dtype=np.uint32)
    with pytest.raises(RuntimeError, match="out of bounds: writes"):
        cases.store_boxes("none", memory, 0, beyond, [0, 0], [0, 16], words)


F16, F32, F64, BF16 = 6, 7, 8, 9
RIGHT = {
    "address": 4096, "type": BF16, "extents": [100, 7, 3], "strides": [208, 208 * 7],
    "box": [64, 256, 1], "steps": [1, 1, 1], "swizzle": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ({}, True),
        ({"type": F16}, True),
        ({"type": F32, "strides": [400, 2800], "box": [32, 1, 1]}, True),
        ({"type": F64}, False),
        ({"address": 4096 + 8}, False),
        ({"address": 0}, False),
        ({"extents": [100, 0, 3]}, False),
        ({"extents": [100, 2**32, 3], "strides": [208, 208 * 2**31]}, True),
        ({"extents": [100, 2**32 + 1, 3], "strides": [208, 208 * 2**31]}, False),
        ({"strides": [216, 208 * 7]}, False),
        ({"strides": [208, 2**40]}, False),
        ({"strides": [208, 2**40 - 16]}, True),
        ({"strides": [96, 208 * 7]}, False),
        ({"box": [64, 257, 1]}, False),
        ({"box": [64, 0, 1]}, False),
        ({"box": [72, 8, 1]}, False),
        ({"box": [72, 8, 1], "swizzle": 0}, True),
        ({"box": [68, 8, 1], "swizzle": 0}, False),
        ({"box": [32, 8, 1], "swizzle": 2}, True),
        ({"box": [40, 8, 1], "swizzle": 2}, False),
        ({"box": [16, 8, 1], "swizzle": 1}, True),
        ({"box": [24, 8, 1], "swizzle": 1}, False),
        ({"steps": [1, 2, 1]}, False),
        ({"steps": [1, 0, 1]}, False),
        ({"swizzle": 4}, False),
        ({"extents": [100] * 6, "strides": [208] * 5, "box": [8] * 6, "steps": [1] * 6}, False),
    ],
)
def test_the_driver_refuses_what_its_documentation_does(cases, change, right):
    assert cases.encodes(**{**RIGHT, **change}) == right


def test_a_map_is_refused_in_one_of_two_ways(cases):
    """By what TMA cannot do, and by a driver that has none of it."""
    memory, tensor = small(cases)
    for wrong in (
        cases.Tensor(8, [128, 16], [1, 128], [64, 8], 0),
        cases.Tensor(2, [128, 16], [1, 127], [64, 8], 3),
        cases.Tensor(2, [128, 16], [1, 128], [32, 8], 3),
    ):
        with pytest.raises(ValueError, match="invalid argument"):
            cases.load_box("none", memory, 0, wrong, [0, 0])
    cases.set_driver_has_tensor_maps(False)
    try:
        with pytest.raises(ValueError, match="operation not supported"):
            cases.load_box("none", memory, 0, tensor, [0, 0])
    finally:
        cases.set_driver_has_tensor_maps(True)
    cases.load_box("none", memory, 0, tensor, [0, 0])
