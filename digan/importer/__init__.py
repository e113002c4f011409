"""Official checkpoints, read without running the code inside them, and the way back.

`read_snapshot` opens the file; `import_generator` and `import_discriminators` make our networks
of it; `export_state_dict` gives a network's tensors their official names again.
"""

from digan.importer.export import export_file, export_state_dict
from digan.importer.files import Imported, import_file
from digan.importer.networks import import_discriminators, import_generator
from digan.importer.snapshot import OfficialModule, OfficialSnapshot, read_snapshot
from digan.importer.stylegan2 import import_stylegan2_discriminator, start_from_stylegan2

__all__ = [
    "read_snapshot",
    "OfficialSnapshot",
    "OfficialModule",
    "import_generator",
    "import_discriminators",
    "import_file",
    "Imported",
    "export_state_dict",
    "export_file",
    "import_stylegan2_discriminator",
    "start_from_stylegan2",
]
