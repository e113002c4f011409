"""matplotlib is optional: where it is, files are drawn without a display; else one line says so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from PIL import Image

from digan.errors import DiganError
from digan.plotting import pyplot


def test_figures_need_no_display(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    code = (
        "from digan.plotting import pyplot\n"
        "plt = pyplot()\n"
        "print(plt.get_backend())\n"
        "figure, axis = plt.subplots(figsize=(2, 1))\n"
        "axis.plot([0, 1])\n"
        f"figure.savefig({str(tmp_path / 'line.png')!r}, dpi=50)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().lower() == "agg"
    with Image.open(tmp_path / "line.png") as picture:
        assert picture.size == (100, 50)


def test_without_matplotlib_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it then fails
    with pytest.raises(DiganError, match=r"^plots need matplotlib: pip install 'digan\[plot\]'$"):
        pyplot()


def test_importing_it_imports_no_matplotlib():
    code = "import sys, digan.plotting; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
