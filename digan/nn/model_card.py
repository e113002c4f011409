"""Model cards: what a shared network was trained on, how it was measured, what one may do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digan.errors import DiganError

if TYPE_CHECKING:
    from digan.nn.snapshot import NetworkInfo

UNKNOWN = "not stated"


@dataclass(frozen=True)
class Metric:
    """One measured number; without its protocol it would say little."""

    name: str
    """As FVD."""
    value: float
    protocol: str
    """Samples, frames, stride, detector, seed: all that a repetition needs."""


@dataclass(frozen=True)
class ModelCard:
    """What `Generator.save_pretrained` writes into README.md beside what the network knows."""

    title: str = "DIGAN video generator"
    training_data: str = UNKNOWN
    """Data set with split and preparation, and where it comes from."""
    licence: str = UNKNOWN
    """Licence of the weights, best an SPDX identifier as apache-2.0."""
    metrics: tuple[Metric, ...] = ()
    limitations: str = ""
    """What the network cannot do or must not be used for."""

    def __post_init__(self) -> None:
        for name in ("title", "licence"):
            text = getattr(self, name)
            if not text.strip() or "\n" in text:
                raise DiganError(f"the card's {name} must be one line of text, got {text!r}")
        for metric in self.metrics:
            if not metric.name.strip() or not metric.protocol.strip():
                raise DiganError(f"a metric of a card needs a name and a protocol, got {metric}")

    def render(self, info: NetworkInfo) -> str:
        """The card in Markdown, with the header that model hubs read."""
        config = info.generator
        tags = ["digan", "video-generation", "implicit-neural-representation", "gan"]
        known = self.licence != UNKNOWN
        header = [
            "---",
            "library_name: digan",
            # JSON is YAML: quoted, a colon in a text means nothing.
            *([f"license: {json.dumps(self.licence, ensure_ascii=False)}"] if known else []),
            "tags:",
            *[f"- {tag}" for tag in tags],
            "---",
        ]
        rows = [
            ("frames", f"{config.resolution}x{config.resolution}"),
            ("training clip", f"{info.clip_frames} frames" + _rate(info.fps)),
            ("classes", _classes(info)),
            ("training", f"{info.kimg:g} thousand samples" if info.kimg else UNKNOWN),
            ("origin", info.description or UNKNOWN),
        ]
        metrics = [
            f"| {_cell(m.name)} | {m.value:.6g} | {_cell(m.protocol)} |" for m in self.metrics
        ]
        parts = [
            f"# {self.title}",
            "A generator of [DIGAN](https://arxiv.org/abs/2202.10571): it writes the weights of a "
            "coordinate network (x, y, t) -> RGB for every video, which has a value at any time, "
            "at any resolution and over any extent.",
            _table(("", ""), [f"| {_cell(a)} | {_cell(b)} |" for a, b in rows]),
            f"## Training data\n\n{self.training_data}",
            "## Metrics\n\n"
            + (_table(("metric", "value", "protocol"), metrics) if metrics else "None measured."),
            f"## Licence\n\n{self.licence}",
            *([f"## Limitations\n\n{self.limitations}"] if self.limitations else []),
            f"## How to use\n\n{_USE}",
        ]
        return "\n".join(header) + "\n\n" + "\n\n".join(parts) + "\n"


_USE = """With `digan` installed:

    digan generate --network FOLDER --seeds 0-15 --grid 4x4

```python
from digan.nn import Generator
from digan.synthesis import write_videos

generator = Generator.from_pretrained("FOLDER")
videos = write_videos(generator, seeds=[0, 1])
```

`FOLDER` is a copy of this folder; `from_pretrained` takes a hub's `OWNER/NAME` too. The weights
are safetensors: loading them runs no code."""


def _rate(fps: float) -> str:
    return f" at {fps:g} frames per second" if fps else ""


def _classes(info: NetworkInfo) -> str:
    if not info.generator.num_classes:
        return "none"
    return ", ".join(info.classes) or str(info.generator.num_classes)


def _cell(text: str) -> str:
    """A text that stays within its cell of a table and is no markup: classes name folders."""
    return re.sub(r"[\\`\[\]<>|*]", r"\\\g<0>", " ".join(text.split()))


def _table(titles: tuple[str, ...], rows: list[str]) -> str:
    head = "| " + " | ".join(titles) + " |"
    return "\n".join([head, "|" + "---|" * len(titles), *rows])
