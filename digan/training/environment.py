"""What a run sets in the process that it runs in."""

from __future__ import annotations

import torch

from digan.config import TrainConfig


class Environment:
    """Process-wide settings of PyTorch for a run, put back afterwards.

    fp32 is meant as it is said. In narrow runs cuDNN may round the operands of the few float32
    convolutions that are left to TF32, which is no narrower than the others.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        self.warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        self.fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        self.benchmark = torch.backends.cudnn.benchmark
        self.tf32 = torch.backends.cudnn.allow_tf32
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        torch.use_deterministic_algorithms(self.config.deterministic, warn_only=True)
        torch.backends.cudnn.benchmark = not self.config.deterministic
        torch.backends.cudnn.allow_tf32 = self.config.precision != "fp32"
        # Deterministic mode would otherwise write NaN into every new tensor first.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = self.fill  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = self.benchmark
        torch.backends.cudnn.allow_tf32 = self.tf32
