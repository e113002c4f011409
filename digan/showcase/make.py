"""`digan showcase`: the sections that are wanted, those of earlier runs, and the page of all."""

from __future__ import annotations

import difflib
import hashlib
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tqdm import tqdm

from digan._version import __version__
from digan.config import GeneratorPrecision, Kernels
from digan.errors import DiganError
from digan.files import file_sha256, writable_folder, write_text
from digan.generate import open_network
from digan.nn.snapshot import NetworkInfo, network_path
from digan.showcase.media import Section, make_section, read_section
from digan.showcase.page import Page
from digan.showcase.sections import SECTIONS
from digan.showcase.settings import Settings, resolve
from digan.showcase.studio import Studio

# What decides how films look: when one of these files changes, sections are made again.
DRAWN_BY = ("media.py", "prediction.py", "sections.py", "studio.py", "walks.py")
MOST_BYTES = 200 << 20  # that a showcase may need on the disk


def check_sections(names: Sequence[str]) -> list[str]:
    """The sections in the order of the page.

    Raises:
        DiganError: one that does not exist; names the nearest.
    """
    for name in names:
        if name not in SECTIONS:
            near = difflib.get_close_matches(name, SECTIONS, n=1, cutoff=0.5)
            hint = f", did you mean {near[0]}?" if near else ""
            raise DiganError(f"section must be of {', '.join(SECTIONS)}, got {name!r}{hint}")
    return [name for name in SECTIONS if name in names]


def showcase(
    network: str,
    outdir: Path,
    settings: Settings | None = None,
    *,
    sections: Sequence[str] | None = None,
    precision: GeneratorPrecision = "fp32",
    kernels: Kernels = "auto",
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Writes outdir/index.html, and the videos in it to outdir/media; returns the page.

    A section whose settings did not change since an earlier run is not made again. Sections
    that are not asked for stay as an earlier run with this network made them.

    Args:
        network: a file, a run's folder or `demo`. outdir: where to write.
        settings: what to show. sections: their names; all by default.
        precision, kernels, device: as for `digan.generate.open_network`.
        progress: whether a bar shows the work.

    Raises:
        DiganError: an unknown section, no such network, a folder that cannot be written,
            settings that cannot be.
    """
    wanted = check_sections(list(SECTIONS) if sections is None else sections)
    path = network_path(network)
    writable_folder(outdir, need_bytes=MOST_BYTES)
    generator, info = open_network(network, precision=precision, kernels=kernels, device=device)
    settings = resolve(settings or Settings(), info)
    studio = Studio(generator, info, network, settings, progress)
    print_of_file = file_sha256(path)
    media = outdir / "media"
    todo = {}
    for name in wanted:
        key = _key(name, studio, print_of_file, precision)
        known = read_section(media / name)
        if known is None or known[1] != key:
            todo[name] = (SECTIONS[name].plan(studio), key)
    total = sum(plan.work for plan, _ in todo.values())
    with tqdm(
        total=total, unit="pixel", unit_scale=True, disable=not (progress and todo), file=sys.stderr
    ) as bar:
        for name, (plan, key) in todo.items():
            bar.set_description(name)
            make_section(name, SECTIONS[name].title, plan, media / name, key, bar.update)
    made = _sections_of(media, print_of_file, progress)
    page = outdir / "index.html"
    write_text(page, _page(made, studio, print_of_file))
    if progress:
        print(
            f"{len(todo)} of {len(made)} sections made, {page.stat().st_size / 1e6:.1f} MB",
            file=sys.stderr,
        )
    return page


def _key(
    name: str, studio: Studio, print_of_file: str, precision: GeneratorPrecision
) -> dict[str, Any]:
    """What a section depends on, as JSON gives it back."""
    values = {field: getattr(studio.settings, field) for field in SECTIONS[name].reads}
    return {
        "digan": __version__,
        "drawn_by": _drawn_by(),
        "network": studio.network,
        "sha256": print_of_file,
        "precision": precision,
        "settings": {field: _plain(value) for field, value in values.items()},
    }


def _drawn_by() -> str:
    code = b"".join((files("digan.showcase") / name).read_bytes() for name in DRAWN_BY)
    return hashlib.sha256(code).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """A setting as JSON gives it back; a video with what changes when it does."""
    if not isinstance(value, Path):
        return list(value) if isinstance(value, tuple) else value
    parts = sorted(value.iterdir()) if value.is_dir() else [value]
    stamps = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    digest = hashlib.sha256(repr(stamps).encode()).hexdigest()
    return [str(value), digest]


def _sections_of(media: Path, print_of_file: str, progress: bool) -> list[Section]:
    """All sections that are there, in the order of the page, of this network alone."""
    found = []
    for name in SECTIONS:
        known = read_section(media / name)
        if known is None:
            continue
        section, key = known
        if key.get("sha256") == print_of_file:
            found.append(section)
        elif progress:
            print(f"section {name} is of another network and left out", file=sys.stderr)
    return found


def _page(sections: Sequence[Section], studio: Studio, print_of_file: str) -> str:
    info = studio.info
    page = Page(f"Showcase of {studio.network}", _lead(info))
    for section in sections:
        page.section(section)
    parameters = sum(weight.numel() for weight in studio.generator.parameters())
    page.facts(
        [
            ("Network", f"{studio.network}, sha256 {print_of_file[:16]}"),
            *([("Description", info.description)] if info.description else []),
            ("Resolution", f"{info.generator.resolution}×{info.generator.resolution}"),
            ("Training clip", _clip(info)),
            *([("Classes", ", ".join(info.classes))] if info.classes else []),
            ("Generator", f"{parameters / 1e6:.2f} million parameters"),
            *([("Trained for", f"{info.kimg:g} thousand samples")] if info.kimg else []),
            ("Made by", f"digan {__version__}"),
        ]
    )
    return page.html()


def _clip(info: NetworkInfo) -> str:
    rate = f" at {info.fps:g} fps" if info.fps else ""
    return f"{info.clip_frames} frames{rate}"


def _lead(info: NetworkInfo) -> list[str]:
    size = info.generator.resolution
    return [
        f"What one network can show, trained on clips of {info.clip_frames} frames of "
        f"{size}×{size} pixels" + (f": {info.description}." if info.description else "."),
        "Videos start when they are seen, and those beside one another play in step. The line "
        "under them is what makes the same.",
    ]
