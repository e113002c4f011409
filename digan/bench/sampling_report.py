"""What the overlap of sampling to a file brings, from its rows."""

from __future__ import annotations

import math

from digan.bench.rows import Results, Row

SERIAL, OVERLAPPED = "serial", "overlapped"
PARTS = NETWORK, BYTES, COPY, ENCODING = "network", "bytes", "copy", "encoding"


def overlap_efficiency(serial: float, overlapped: float, longest: float) -> float:
    """The share of what could be hidden that was: 1 where only the longest part is left.

    NaN where the other parts are not measurably there.
    """
    hidden = serial - longest
    return (serial - overlapped) / hidden if hidden > 0.005 * serial else math.nan


def sampling_summary(results: Results) -> str:
    """Seconds of one video to a file, before and after, and the share of each part."""
    rows = [r for r in results.rows if r.section == "sampling" and r.samples]
    lines = []
    for row in rows:
        if row.provider != SERIAL:
            continue

        def found(provider: str, of: Row = row) -> float:
            same = [
                r.median for r in rows
                if (r.provider, r.precision, r.allocator) == (provider, of.precision, of.allocator)
            ]  # fmt: skip
            return same[0] if same else math.nan

        after, parts = found(OVERLAPPED), {name: found(name) for name in PARTS}
        share = overlap_efficiency(row.median, after, max(parts[NETWORK], parts[ENCODING]))
        lines.append(
            f"  {row.precision:<5} {row.allocator:<8}{row.median:8.3f} s one after the other,"
            f"{after:8.3f} s overlapped ({row.items / after:,.1f} frames/s, "
            f"{row.median / after:.2f}x"
            + (f"; {100 * share:.0f} % of what can be hidden" if math.isfinite(share) else "")
            + "); "
            + ", ".join(f"{name} {1e3 * value:,.1f} ms" for name, value in parts.items())
        )
    return "\n".join(["one video to an mp4 file:", *lines]) if lines else ""
