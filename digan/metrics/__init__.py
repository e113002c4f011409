"""How good a set of videos is: distances, feature networks, and the controls beside them."""

from digan.metrics.clip_sets import (
    ChosenClips,
    FolderVideos,
    StoreVideos,
    VideoSet,
    choose_clips,
    clip_batches,
    gather_batches,
    open_videos,
    own_batches,
)
from digan.metrics.controls import (
    ControlReport,
    Protocol,
    Random3dResult,
    RealReference,
    evaluate_random3d,
)
from digan.metrics.detectors import Detector, load_detector
from digan.metrics.diversity import PixelStatistics, mean_frame_change, mean_pairwise_distance
from digan.metrics.evaluate import DetectorFile, Evaluator, MetricResult
from digan.metrics.fakes import Fakes, FileFakes, NetworkFakes
from digan.metrics.features import Random3d
from digan.metrics.frechet import (
    FeatureStatistics,
    FrechetParts,
    frechet_distance,
    frechet_parts,
    polynomial_mmd,
)
from digan.metrics.i3d import I3D, i3d_input
from digan.metrics.inception import InceptionScore, inception_score
from digan.metrics.protocols import EvaluationProtocol, parse_metrics, parse_protocol

__all__ = [
    "EvaluationProtocol",
    "parse_protocol",
    "parse_metrics",
    "Evaluator",
    "MetricResult",
    "DetectorFile",
    "Detector",
    "load_detector",
    "I3D",
    "i3d_input",
    "InceptionScore",
    "inception_score",
    "Fakes",
    "NetworkFakes",
    "FileFakes",
    "VideoSet",
    "StoreVideos",
    "FolderVideos",
    "open_videos",
    "ChosenClips",
    "choose_clips",
    "clip_batches",
    "own_batches",
    "gather_batches",
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
