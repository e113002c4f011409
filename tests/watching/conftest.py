"""What the tests of training have."""

from tests.training.conftest import few_samples, store

__all__ = ["few_samples", "store"]
