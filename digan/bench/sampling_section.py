"""Sampling to a file: one video from its codes to an mp4, and the parts of that work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from digan.bench.cases import Case, Context, Subject
from digan.bench.floors import generator_work
from digan.bench.generator_section import PATHS, make_network
from digan.bench.machine import DTYPES
from digan.bench.sampling_report import BYTES, COPY, ENCODING, NETWORK, OVERLAPPED, SERIAL
from digan.data.sinks import open_sink
from digan.generate import Request
from digan.generate.cells import chunk_of
from digan.generate.encoding import EncoderThread
from digan.grid import SpaceTimeGrid, frame_times
from digan.nn import VideoINR
from digan.synthesis import seed_codes, stream_frames, to_uint8
from digan.synthesis.streaming import path_of
from digan.synthesis.transfer import copies_for, to_host

FPS = 25.0


def cases(context: Context) -> Iterator[Case]:
    """The file in both ways, in turns; then its parts, each for all frames.

    `serial` computes a chunk, makes bytes of it, copies and encodes it, and only then begins the
    next; `overlapped` is what `digan generate` does. A GPU's parts are times between two events
    on its stream, except the encoding.
    """
    options = context.options
    config = options.config().generator
    path = "fused" if options.wants("fused") else "reference"
    whole: dict[Subject, Callable[[], Any]] = {}
    parts: dict[Subject, Callable[[], Any]] = {}
    for precision in options.precisions if options.wants(path) else ():
        network = make_network(context, precision, dict(PATHS)[path])
        labels = [0] if config.num_classes else None
        video = _Video(context, seed_codes(network, [0], labels=labels).write(network))
        whole[SERIAL, precision] = video.serial
        whole[OVERLAPPED, precision] = video.overlapped
        parts[NETWORK, precision] = video.network
        parts[BYTES, precision] = video.bytes
        parts[COPY, precision] = video.copy
        parts[ENCODING, precision] = video.encoding
    size = f"{options.frames} of {config.resolution}x{config.resolution}"
    work = {
        precision: generator_work(config, options.frames, DTYPES[precision].itemsize)
        for precision in options.precisions
    }
    yield Case(f"to mp4, {size}", whole, unit="frames", items=options.frames, work=work)
    yield Case(f"its parts, {size}", parts, unit="frames", items=options.frames)


class _Video:
    """One video whose weights are written, and everything that is done with it."""

    def __init__(self, context: Context, inr: VideoINR) -> None:
        self.inr, self.device = inr, context.device
        frames = context.options.frames
        self.impl = path_of(inr.generator)
        self.t = frame_times(frames, frames).to(self.device)
        self.chunk = chunk_of(inr.generator, 1, Request(self.t, FPS))
        self.path = context.folder / "video.mp4"
        self._made: tuple[list[Tensor], list[Tensor]] | None = None

    def _times(self) -> tuple[Tensor, ...]:
        return torch.split(self.t, self.chunk)

    @torch.no_grad()
    def network(self) -> None:
        for t in self._times():
            self.inr.render(SpaceTimeGrid(t))

    def _chunks(self) -> tuple[list[Tensor], list[Tensor]]:
        """Pictures and their bytes on the device, made at the first call and kept."""
        if self._made is None:
            with torch.no_grad():
                pictures = [self.inr.render(SpaceTimeGrid(t)) for t in self._times()]
            self._made = pictures, [to_uint8(chunk, self.impl) for chunk in pictures]
        return self._made

    def bytes(self) -> None:
        for chunk in self._chunks()[0]:
            to_uint8(chunk, self.impl)

    def copy(self) -> None:
        for _ in to_host(iter(self._chunks()[1]), copies_for(self.device)):
            pass

    def encoding(self) -> None:
        with self._file() as write:
            for chunk in self._chunks()[1]:
                for frame in chunk[0].cpu().numpy():
                    write(frame)

    @torch.no_grad()
    def serial(self) -> None:
        with self._file() as write:
            for t in self._times():
                chunk = to_uint8(self.inr.render(SpaceTimeGrid(t)), self.impl).cpu()
                for frame in chunk[0].numpy():
                    write(frame)

    def overlapped(self) -> None:
        with self._file() as write, EncoderThread(write) as encoder:
            for chunk in stream_frames(self.inr, self.t, chunk=self.chunk):
                encoder.put(chunk[0].numpy())

    @contextlib.contextmanager
    def _file(self) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
        with open_sink(self.path, FPS, len(self.t)) as sink:
            yield sink.write
