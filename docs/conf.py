"""Settings of the documentation. `make docs` builds it; nothing in it comes from a network."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# This tree is what is documented, whichever digan is installed; the extensions lie here.
sys.path[:0] = [str(ROOT), str(HERE)]

project = "digan"
author = "the digan authors"
copyright = "the digan authors"
version = release = runpy.run_path(str(ROOT / "digan" / "_version.py"))["__version__"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "docstrings",
    "formulas",
    "settings_tables",
    "shapes",
    "verb_help",
]
# A name in single backquotes is code, and a link if it is the name of something documented.
default_role = "code-or-link"
highlight_language = "text"  # where nothing else is said
smartquotes = False  # two hyphens begin a flag

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "signature"
# Names that the sources give to unions and literals, and where the reference has them.
signature_aliases = {
    "_registry.Impl": "digan.ops.Impl",
    "Impl": "digan.ops.Impl",
    "Clips": "digan.metrics.features.Clips",
    "Kind": "digan.metrics.protocols.Kind",
    "ClipRule": "digan.metrics.protocols.ClipRule",
    "Rounding": "digan.metrics.protocols.Rounding",
    "Videos": "digan.metrics.features.Videos",
    "Features": "digan.metrics.frechet.Features",
    "Frames": "digan.synthesis.marks.Frames",
    "Curve": "digan.synthesis.times.Curve",
    "Precision": "digan.config.Precision",
    "Preset": "digan.config.Preset",
    "Kernels": "digan.config.Kernels",
}
python_maximum_signature_line_length = 76
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# There is no inventory of other projects here, as the build reads no network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(torch|nn|np|numpy|os|pathlib|collections|contextlib|fractions|types)\..*"),
    ("py:.*", r"Any|Literal|NDArray|Image|Array|T"),  # of typing, and names for arrays
    ("py:.*", r"digan\.nn\.generator\.BlockWeights"),  # what VideoINR holds
]

html_theme = "furo"
html_title = f"digan {version}"
html_static_path = ["static"]
html_css_files = ["digan.css"]
html_show_copyright = False
html_copy_source = False
html_math_renderer = "mathml"
