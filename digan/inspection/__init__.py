"""What a trained network has learned: its frequencies, phases, weights and blocks, as numbers.

Every function is pure: coordinate networks in, arrays out. `digan.inspection.report.inspect` calls
them all and writes pictures and a JSON file; it is what `digan inspect` runs.
"""

from digan.inspection.blocks import added_by_block, block_pictures
from digan.inspection.frames import FrameChange, frame_change
from digan.inspection.frequencies import Frequencies, spatial_frequencies
from digan.inspection.phases import Phases, inspection_times, phase_trajectories, translation
from digan.inspection.weights import content_share, weight_shares

__all__ = [
    "Frequencies",
    "spatial_frequencies",
    "Phases",
    "inspection_times",
    "phase_trajectories",
    "translation",
    "FrameChange",
    "frame_change",
    "block_pictures",
    "added_by_block",
    "content_share",
    "weight_shares",
]
