"""Networks that turn videos into features, each loaded from a file that the caller names.

Nothing is ever fetched. A file is checked against a sha256 where one is given, and its own is
written into every result. **A TorchScript file is a program**: loading it runs what it says, so
take it from a source that you trust, and give its sha256. State dicts run nothing.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from digan.errors import DiganError
from digan.files import check_archive, file_sha256
from digan.metrics.features import Videos, as_videos
from digan.metrics.i3d import I3D, MIN_FRAMES, i3d_input

# What is missing, where it is described, and its sha256 where that is known.
WANTED: dict[str, tuple[str, str, str]] = {
    "i3d": (
        "i3d_torchscript.pt (README of StyleGAN-V, universome/stylegan-v; sha256 "
        "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2) or "
        "i3d_pretrained_400.pt (wilson1yan/VideoGPT and sihyun-yu/digan, scripts/fvd; sha256 not "
        "known here)",
        "--i3d",
        "DIGAN_I3D_PATH",
    ),
    "c3d": (
        "c3d_ucf101.pt (README of StyleGAN-V, universome/stylegan-v; sha256 not known here)",
        "--c3d",
        "DIGAN_C3D_PATH",
    ),
    "videomae": (
        "a folder of a VideoMAE model for transformers (config.json and weights)",
        "--videomae",
        "DIGAN_VIDEOMAE_PATH",
    ),
}
_SAMPLE_FRAMES = 16


class Detector(ABC):
    """A feature network.

    Attributes:
        kind: i3d, c3d or videomae. convention: how it is called.
        path: of its file. sha256: of the file's bytes.
        min_frames: the shortest clip it takes.
    """

    kind: str
    convention: str
    min_frames: int = 1

    def __init__(self, path: Path, sha256: str, device: torch.device) -> None:
        self.path, self.sha256, self.device = path, sha256, device

    @torch.no_grad()
    def __call__(self, videos: Videos) -> Tensor:
        """Features of a batch, in float32 without TF32 or autocast.

        Args:
            videos: uint8 [B, T, H, W, 3].

        Returns:
            float32 [B, D] on the CPU.

        Raises:
            DiganError: too few frames, a network that fails or gives something else.
        """
        batch = as_videos(videos)
        if batch.shape[1] < self.min_frames:
            raise DiganError(
                f"the {self.kind} network needs clips of at least {self.min_frames} frames, "
                f"got {batch.shape[1]}"
            )
        exact = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )
        try:
            with torch.autocast(self.device.type, enabled=False), exact:
                found = self.features(batch.to(self.device))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[-200:]
            raise DiganError(
                f"{self.path} does not take videos as a {self.convention} does: {reason}"
            ) from error
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(batch):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise DiganError(
                f"{self.path} must give [{len(batch)}, D] for {len(batch)} videos, got {shape}"
            )
        return found.flatten(1).float().cpu()

    @abstractmethod
    def features(self, videos: Tensor) -> Tensor:
        """What the network gives for uint8 [B, T, H, W, 3] on its device: [B, D]."""

    def to_json(self) -> dict[str, object]:
        """What a result says about it."""
        return {
            "kind": self.kind,
            "convention": self.convention,
            "file": self.path.name,
            "sha256": self.sha256,
        }


class ScriptedI3D(Detector):
    """TorchScript called as f(x, rescale=True, resize=True, return_features=True).

    x is float32 [B, 3, T, H, W] in 0 to 255; the file scales and resizes by itself.
    """

    kind = "i3d"
    convention = "TorchScript I3D (rescale, resize, return_features)"

    def __init__(self, path: Path, sha256: str, device: torch.device) -> None:
        super().__init__(path, sha256, device)
        self.module = _scripted(path, device)

    def features(self, videos: Tensor) -> Tensor:
        """See the class."""
        x = videos.permute(0, 4, 1, 2, 3).float()
        found: Tensor = self.module(x, rescale=True, resize=True, return_features=True)
        return found


class ScriptedC3D(Detector):
    """TorchScript called as f(x), x float32 [B, 3, T, H, W] in 0 to 255; gives probabilities."""

    kind = "c3d"
    convention = "TorchScript C3D (class probabilities)"

    def __init__(self, path: Path, sha256: str, device: torch.device) -> None:
        super().__init__(path, sha256, device)
        self.module = _scripted(path, device)

    def features(self, videos: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.module(videos.permute(0, 4, 1, 2, 3).float())
        return found


class I3DLogits(Detector):
    """The I3D of `digan.metrics.i3d` with weights of a state dict: 400 logits."""

    kind = "i3d"
    convention = "I3D state dict (400 logits)"
    min_frames = MIN_FRAMES

    def __init__(self, path: Path, sha256: str, device: torch.device) -> None:
        super().__init__(path, sha256, device)
        self.network = load_i3d_weights(path).to(device)

    def features(self, videos: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.network(i3d_input(videos))
        return found


class VideoMae(Detector):
    """A VideoMAE encoder of the package transformers, averaged over its tokens.

    16 frames are spread evenly over the clip; the folder's own mean, deviation and size apply.
    """

    kind = "videomae"
    convention = "VideoMAE by transformers, mean of the last tokens"

    def __init__(self, path: Path, sha256: str, device: torch.device) -> None:
        super().__init__(path, sha256, device)
        try:
            import transformers
        except ImportError as error:
            raise DiganError("VideoMAE features need transformers: pip install transformers") from (
                error
            )
        try:
            self.model = transformers.VideoMAEModel.from_pretrained(path, local_files_only=True)
            self.processor = transformers.VideoMAEImageProcessor.from_pretrained(
                path, local_files_only=True
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DiganError(f"{path} is no folder of a VideoMAE model: {reason}") from error
        self.model = self.model.to(device).eval()

    def features(self, videos: Tensor) -> Tensor:
        """See the class."""
        places = torch.linspace(0, videos.shape[1] - 1, _SAMPLE_FRAMES).round().long()
        chosen = videos[:, places.to(videos.device)].cpu().numpy()
        pixels = self.processor([list(video) for video in chosen], return_tensors="pt")
        states = self.model(pixels["pixel_values"].to(self.device)).last_hidden_state
        found: Tensor = states.mean(dim=1)
        return found


def _scripted(path: Path, device: torch.device) -> Any:
    try:
        check_archive(path)
        with warnings.catch_warnings():
            # PyTorch would rather see another format; these files are what there is.
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:  # damaged bytes raise almost anything
        reason = " ".join(str(error).split())[:200]
        raise DiganError(f"{path} is no TorchScript file that loads here: {reason}") from error


def is_torchscript(path: Path) -> bool:
    """Whether a file is TorchScript, by what is in its archive; nothing of it is run."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # a damaged directory of an archive raises almost anything
        return False


def load_i3d_weights(path: Path) -> I3D:
    """I3D with a state dict (.pt or .safetensors), in evaluation mode. Runs no code of the file.

    Raises:
        DiganError: no state dict, or names or shapes that are not I3D's.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            check_archive(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways, none of which is ours
        reason = " ".join(str(error).split())[:120]
        raise DiganError(f"{path} is no state dict: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DiganError(f"{path} is no state dict: it holds {type(state).__name__}")
    state = {name.removeprefix("module."): value for name, value in state.items()}
    with torch.device("meta"):
        network = I3D()
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    for name, shape in expected.items():
        if name.endswith("num_batches_tracked"):  # absent from older files, and of no use here
            state.setdefault(name, torch.tensor(0))
        elif given.get(name) != shape:
            came = f"shape {list(given[name])}" if name in given else "nothing of that name"
            raise DiganError(f"{path} is no I3D: {name} must be {list(shape)}, got {came}")
    if extra := sorted(set(given) - set(expected)):
        raise DiganError(f"{path} is no I3D: it holds {extra[0]} beside what I3D has")
    network.load_state_dict(state, assign=True)
    return network.float().eval().requires_grad_(False)


def load_detector(
    kind: str,
    path: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """A detector from its file.

    Args:
        kind: i3d (TorchScript or state dict, told apart by content), c3d or videomae.
        path: of the file, or of VideoMAE's folder; the environment's DIGAN_I3D_PATH,
            DIGAN_C3D_PATH or DIGAN_VIDEOMAE_PATH by default.
        sha256: what the file's must be. It is checked before anything of it is loaded.
        device: where it runs.

    Raises:
        DiganError: no file given (says which is wanted), missing, another sha256, not of its
            kind.
    """
    if kind not in WANTED:
        raise DiganError(f"a detector must be of {', '.join(WANTED)}, got {kind!r}")
    file, flag, variable = WANTED[kind]
    given = path or os.environ.get(variable)
    if not given:
        raise DiganError(
            f"this metric needs the file of the {kind} network: {file}; give it by {flag} or "
            f"{variable}, digan fetches none"
        )
    place = Path(given)
    if not place.exists():
        raise DiganError(f"the file {place} of the {kind} network does not exist; wanted: {file}")
    found = file_sha256(place)
    if sha256 is not None and found != sha256.strip().lower():
        raise DiganError(f"{place} must have sha256 {sha256}, got {found}")
    chosen = torch.device(device)
    if kind == "videomae":
        return VideoMae(place, found, chosen)
    if kind == "c3d":
        return ScriptedC3D(place, found, chosen)
    scripted = is_torchscript(place)
    return (ScriptedI3D if scripted else I3DLogits)(place, found, chosen)
