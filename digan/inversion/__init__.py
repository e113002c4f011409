"""Inversion: the codes of a given clip, and what the network makes of them.

    clip -> `fit_clip` -> codes -> its past, its future, what lies between its frames

`read_clip` reads the target, `fit_clip` finds content and motion codes by optimisation,
`save_codes` and `load_codes` keep them, `write_results` shows what they give.
"""

from digan.inversion.clip import Clip, noisy, parse_frames, read_clip
from digan.inversion.codes import SavedCodes, load_codes, network_hash, save_codes
from digan.inversion.fit import Inversion, Row, fit_clip
from digan.inversion.panels import Panel
from digan.inversion.phases import FitSettings, Phase, plan
from digan.inversion.plot import plot_curve, write_curve
from digan.inversion.quality import blend_frames, psnr, repeat_frames
from digan.inversion.report import Written, invert_to_files
from digan.inversion.results import RESULTS, Result, ResultSettings, make_results, write_results
from digan.inversion.space import CodeSpace, measure_space

__all__ = [
    "RESULTS",
    "Clip",
    "CodeSpace",
    "FitSettings",
    "Inversion",
    "Panel",
    "Phase",
    "Result",
    "ResultSettings",
    "Row",
    "SavedCodes",
    "Written",
    "blend_frames",
    "fit_clip",
    "invert_to_files",
    "load_codes",
    "make_results",
    "measure_space",
    "network_hash",
    "noisy",
    "parse_frames",
    "plan",
    "plot_curve",
    "psnr",
    "read_clip",
    "repeat_frames",
    "save_codes",
    "write_curve",
    "write_results",
]
