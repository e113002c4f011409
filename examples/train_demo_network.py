"""Makes the network inside the package: digan/assets/demo.safetensors.

The same videos, the same preset and the same size as `digan demo`, with the hour of the day as
class, trained for longer: about 20 minutes on one CPU core. Run again after an interruption,
it continues.

    python examples/train_demo_network.py --workdir runs/demo-network --kimg 24
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from digan.data.prepare import prepare
from digan.data.synthetic import write_clouds
from digan.demo import DETAIL, FRAMES, RESOLUTION, VIDEOS, DemoSettings, demo_config
from digan.nn.snapshot import load_network, save_network
from digan.training.loop import train

ASSET = Path(__file__).resolve().parent.parent / "digan" / "assets" / "demo.safetensors"
DESCRIPTION = "drifting clouds at four hours of the day; made by examples/train_demo_network.py"


def main() -> None:
    """Trains and copies the last snapshot into the package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/demo-network"))
    parser.add_argument("--kimg", type=float, default=24.0)
    parser.add_argument("--videos", type=int, default=VIDEOS)
    asked = parser.parse_args()
    videos, store = asked.workdir / "videos", asked.workdir / "store"
    if not store.exists():
        write_clouds(videos, videos=asked.videos, frames=FRAMES, detail=DETAIL)
        print(prepare(videos, store, resolution=RESOLUTION).format())
    config = dataclasses.replace(demo_config(DemoSettings(kimg=asked.kimg)), tick=1.0, snap=10.0)
    outcome = train(config, store, asked.workdir / "runs", resume="auto")
    if outcome.finished:
        ASSET.parent.mkdir(exist_ok=True)
        generator, info = load_network(outcome.run)
        save_network(ASSET, generator, dataclasses.replace(info, description=DESCRIPTION))
        print(f"{ASSET}: {ASSET.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
