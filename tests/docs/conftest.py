"""The built site, made once for all tests and all worker processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the HTML, built as `make docs` does: a warning is an error."""
    base = tmp_path_factory.getbasetemp()
    # Workers of one run have folders beside each other; the first builds, the others wait.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    html, said = shared / "site", shared / "site.log"
    with open(shared / "site.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            done = subprocess.run(
                [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-b", "html",
                 "-d", str(shared / "site.doctrees"), "docs", str(html)],
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            said.write_text(f"status {done.returncode}\n{done.stdout}{done.stderr}")
    assert said.read_text() == "status 0\n"
    return html
