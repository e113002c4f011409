"""`digan generate`: what was asked for, and the files made of it."""

from digan.generate.files import open_network, render_files
from digan.generate.request import Request, check_formats, density_of, request_times
from digan.generate.stopping import Stopped, stoppable
from digan.generate.videos import (
    Cell,
    Video,
    choose_cells,
    choose_videos,
    coded_videos,
    parse_classes,
)

__all__ = [
    "Cell",
    "Request",
    "Stopped",
    "Video",
    "check_formats",
    "choose_cells",
    "choose_videos",
    "coded_videos",
    "density_of",
    "open_network",
    "parse_classes",
    "render_files",
    "request_times",
    "stoppable",
]
