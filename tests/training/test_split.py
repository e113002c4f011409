"""`digan train --split`: which videos a run sees, and how it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from digan.config import to_dict
from digan.errors import DiganError
from digan.training.checkpoint import check_same_settings
from digan.training.opening import describe, open_data
from digan.training.runs import run_suffix
from tests.data.clips import quick, write_clip
from tests.tiny_runs import tiny_config


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of 8 frames to train on, two of 6 to test with."""
    folder = tmp_path_factory.mktemp("split")
    for n in range(5):
        split, frames = ("train", 8) if n < 3 else ("test", 6)
        write_clip(folder / "videos" / split / f"{n}.mp4", frames, shade=n)
    quick(folder / "videos", folder / "store")
    return folder / "store"


def test_a_run_sees_its_split_only(store_path: Path) -> None:
    windows = {}
    for split in ("train", "test", "all"):
        config, store, pairs = open_data(tiny_config(split=split), store_path)
        windows[split] = pairs.num_windows
        names = {store.names[pairs.window(i)[0]] for i in range(pairs.num_windows)}
        assert {name.split("/")[0] for name in names} == (
            {"train", "test"} if split == "all" else {split}
        )
        assert f"data: split {split} of test, train" in describe(config, store, pairs)
    assert windows == {"train": 3 * 5, "test": 2 * 3, "all": 3 * 5 + 2 * 3}


def test_a_split_that_is_not_there(store_path: Path) -> None:
    with pytest.raises(DiganError, match=r"split must be one of .*\(test, train\) or all, got val"):
        open_data(tiny_config(split="val"), store_path)


def test_runs_on_other_splits_have_other_names() -> None:
    """Or `--resume auto` would go on with a run on other videos."""
    config = tiny_config()
    names = {run_suffix(replace(config, split=split), "d") for split in ("all", "train", "test")}
    assert len(names) == 3
    assert run_suffix(config, "d") == run_suffix(replace(config, split="all"), "d")


def test_a_state_of_before_the_setting_means_every_video() -> None:
    config = to_dict(tiny_config())
    del config["split"]
    state = {"config": config, "data": "d"}
    check_same_settings(state, tiny_config(), "d", Path("run"))
    with pytest.raises(DiganError, match=r"other settings \(split all -> train\)"):
        check_same_settings(state, tiny_config(split="train"), "d", Path("run"))
