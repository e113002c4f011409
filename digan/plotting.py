"""matplotlib, which is optional: drawn into files, or one line that says how to get it."""

from __future__ import annotations

from typing import Any

from digan.errors import DiganError


def pyplot() -> Any:
    """`matplotlib.pyplot` on the backend Agg, which draws into memory and needs no display.

    Raises:
        DiganError: matplotlib cannot be imported; names the cure.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise DiganError("plots need matplotlib: pip install 'digan[plot]'") from error
    return plt
