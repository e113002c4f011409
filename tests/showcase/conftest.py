"""One small showcase of the demo network, whose header is hostile, and a browser to see it in."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from digan.nn.snapshot import load_network, save_network
from digan.showcase import Settings, prediction, showcase, walks
from tests.requirements import require

# What a network file may call its classes and itself, to get into the page.
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><img src=x onerror='window.hacked = 2'>",
    '" onload="window.hacked = 3" x="',
    "day & night; `$title` --> &lt;b&gt;",
)
SMALL = Settings(seeds=(0, 1, 2, 3, 7), size=64, long=(20, 40))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Shown(NamedTuple):
    """A showcase and what it is of."""

    page: Path
    network: Path
    folder: Path


@pytest.fixture(scope="session")
def hostile_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo network under names that are code elsewhere; the file's too."""
    generator, info = load_network("demo")
    path = tmp_path_factory.mktemp("net") / 'it\'s <b>bold & "here".safetensors'
    save_network(
        path, generator, dataclasses.replace(info, classes=HOSTILE, description=HOSTILE[0])
    )
    return path


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory, hostile_network: Path) -> Shown:
    """All sections at a quarter of the pixels; the searches and walks are short."""
    folder = tmp_path_factory.mktemp("showcase")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "STEPS", 20)
        patch.setattr(prediction, "STARTS", 2)
        patch.setattr(walks, "WALK_SECONDS", 1)
        page = showcase(str(hostile_network), folder, SMALL, progress=False)
    return Shown(page, hostile_network, folder)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    program = os.environ.get("DIGAN_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), "")
    if not program:
        require("browser", f"none of {', '.join(BROWSERS)} is installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        require("browser", "the Python package playwright is not installed")
    with sync_playwright() as playwright:
        # As root, Chromium has no sandbox of its own.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()
