"""Video GANs built on implicit neural representations, with fused kernels.

The rooms of the package: `digan.ops` (the op library, stands alone), `digan.nn` (the
networks), `digan.data` (video to training store), `digan.training`, `digan.metrics`,
`digan.synthesis` (frames from a network) and `digan.cli` (the `digan` command).
Importing `digan` itself imports nothing heavy.
"""

from digan._version import __version__

__all__ = ["__version__"]
