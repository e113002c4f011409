"""How good a set of videos is: distances, feature networks, and the controls beside them."""

from digan.metrics.controls import (
    ControlReport,
    Protocol,
    Random3dResult,
    RealReference,
    evaluate_random3d,
)
from digan.metrics.diversity import PixelStatistics, mean_frame_change, mean_pairwise_distance
from digan.metrics.features import Random3d
from digan.metrics.frechet import (
    FeatureStatistics,
    FrechetParts,
    frechet_distance,
    frechet_parts,
    polynomial_mmd,
)

__all__ = [
    "FeatureStatistics",
    "FrechetParts",
    "frechet_distance",
    "frechet_parts",
    "polynomial_mmd",
    "Random3d",
    "PixelStatistics",
    "mean_pairwise_distance",
    "mean_frame_change",
    "ControlReport",
    "Protocol",
    "RealReference",
    "Random3dResult",
    "evaluate_random3d",
]
