"""Makes the committed subset of the golden numbers: make_subset.py FOLDER_OF_THE_FULL_SET.

Every parameter and input is kept, exactly: they are multiples of 1/256, 1/64 or 1/8 and are
written as 16-bit integers. Of a large output or gradient every n-th number is kept, with the
sum and the sum of squares of all. Float32 results of the original are left out.

A packed file holds one index (JSON: name, kind, dtype, shape, scale or stride) and the
numbers of all arrays, end to end: one zip entry an array would cost more than the arrays.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from tests.golden_numbers import Numbers, _open, moments  # noqa: E402

KEPT = 40  # numbers of a sampled array, at most about twice as many
FILES = {
    # name: prefixes that are left out
    "a1_generator_128_uncond": ("in/loss_w", "f64/grad/", "f64/grad_in/", "f64/loss"),
    "a2_generator_64_uncond": (),
    "b2_generator_64_cond5": (),
    "c_modules_f64": (),
    "d1_discriminator_64_group4": (),
}
DROPPED = ("f32",)


def scale_of(array: np.ndarray) -> int | None:
    """The factor that makes all numbers 16-bit integers, or None."""
    for scale in (1, 8, 64, 256):
        scaled = array.astype(np.float64) * scale
        if np.array_equal(scaled, np.rint(scaled)) and np.abs(scaled).max(initial=0) < 32768:
            return scale
    return None


def stride_for(size: int) -> int:
    """A prime, so that a stride meets all channels, rows and columns."""
    stride = max(size // KEPT, 2)
    while any(stride % divisor == 0 for divisor in range(2, int(stride**0.5) + 1)):
        stride -= 1
    return stride


def pack(numbers: Numbers, dropped: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The entries of a packed file."""
    index: list[list[object]] = []
    parts: dict[str, list[np.ndarray]] = {"integer": [], "float64": [], "float32": []}
    for name, array in numbers.items():
        if name.startswith((*DROPPED, *dropped)) or name.endswith("resample_filter"):
            continue
        shape = list(array.shape)
        if array.dtype.kind == "U":
            index.append([name, "text", "", [], str(array)])
        elif (scale := scale_of(array)) is not None:
            index.append([name, "integer", str(array.dtype), shape, scale])
            parts["integer"].append(np.rint(array.astype(np.float64) * scale).astype(np.int32))
        elif array.dtype == np.float64 and array.size > 2 * KEPT and not is_kept(name):
            stride = stride_for(array.size)
            index.append([name, "sample", "float64", shape, stride])
            parts["float64"] += [array.ravel()[::stride], moments(array)]
        else:
            index.append([name, str(array.dtype), str(array.dtype), shape, None])
            parts[str(array.dtype)].append(array)
    flat = {
        kind: np.concatenate([np.zeros(0), *(part.ravel() for part in found)])
        for kind, found in parts.items()
    }
    integers = flat["integer"].astype(np.int32)
    return {
        "index": np.array(json.dumps(index, separators=(",", ":"))),
        "low": (integers & 255).astype(np.uint8),  # two planes compress better than one
        "high": (integers >> 8).astype(np.int8),
        "float64": flat["float64"],
        "float32": flat["float32"].astype(np.float32),
    }


def is_kept(name: str) -> bool:
    """Arrays that are kept whole: codes, and what tests take apart."""
    return name.startswith(("f64/ws", "coords/", "synthesis_layer/", "mbstd/"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the full golden set")
    folder = parser.parse_args().folder
    total = 0
    for name, dropped in FILES.items():
        whole = _open(folder / f"{name}.npz")
        path = HERE / f"{name}.npz"
        np.savez_compressed(path, **pack(whole, dropped))
        for kept, array in _open(path).items():  # nothing kept may differ
            assert array.dtype == whole[kept].dtype, kept
            np.testing.assert_array_equal(array, whole[kept], strict=True, err_msg=kept)
        total += path.stat().st_size
        print(f"{path.stat().st_size:>9}  {path.name}")
    print(f"{total:>9}  in all")


if __name__ == "__main__":
    main()
