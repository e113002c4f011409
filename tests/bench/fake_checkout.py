"""A small fake of the original's checkout, and configurations that both can build.

The fake is laid out like the original and breaks in the same places: it wants a NumPy of its
time and packages that nobody has.
"""

from __future__ import annotations

from pathlib import Path

from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig, resolve

PLUGIN_OP = """
import warnings
from .. import custom_ops
wanted = False
_plugin = None
def _init():
    global _plugin
    try:
        _plugin = custom_ops.get_plugin("{name}_plugin", sources=["{name}.cu"])
    except Exception:
        warnings.warn("it did not build")
    return _plugin is not None
def {name}(x):
    return _plugin.{name}(x) if wanted and _init() else _{name}_ref(x)
def _{name}_ref(x):
    return x
"""
GRADFIX_OP = """
import warnings
enabled = False
def _should_use_custom_op(*_):
    if enabled:
        warnings.warn("not supported on this PyTorch. And more.\\nSecond line.")
    return False
def run(x):
    return None if _should_use_custom_op(x) else x
"""
FAKE = {
    "configs/digan.yml": """
generator:
  coords: {low_res_cfg: {size: 1}, medium_res_cfg: {size: 1}, res_configs: {"32": 1, "64": 1}}
  fmm: {rank: 1}
loss_kwargs: {r1_gamma: 1.0, pl_weight: 0}
""",
    "configs/main.yml": "train_args: {diffaugment: color}",
    "src/dnnlib/__init__.py": "import nobody_has_this\nfrom nobody_has.that import thing\n",
    "src/torch_utils/__init__.py": "",
    "src/torch_utils/ops/__init__.py": "",
    "src/torch_utils/custom_ops.py": """
import importlib
import torch.utils.cpp_extension
verbosity = "brief"
def get_plugin(name, sources, **options):
    torch.utils.cpp_extension.load(name=name, sources=sources, **options)
    return importlib.import_module(name)
""",
    "src/torch_utils/ops/bias_act.py": PLUGIN_OP.format(name="bias_act"),
    "src/torch_utils/ops/upfirdn2d.py": PLUGIN_OP.format(name="upfirdn2d"),
    "src/torch_utils/ops/conv2d_gradfix.py": GRADFIX_OP,
    "src/torch_utils/ops/grid_sample_gradfix.py": GRADFIX_OP,
    "src/__init__.py": "",
    "src/training/__init__.py": "",
    "src/training/diffaugment.py": "def DiffAugment(x, policy):\n    return x\n",
    "src/training/loss.py": """
from src.training.diffaugment import DiffAugment
class OurStyleGAN2Loss:
    pass
""",
    "src/training/networks.py": """
import pickle
import numpy as np
import torch
import dnnlib
from torch_utils.ops import bias_act, conv2d_gradfix, upfirdn2d
MOST = np.float("inf")
def older():
    return np.float("1.5")
class Generator(torch.nn.Module):
    def __init__(self, z_dim, c_dim, cfg, **_):
        super().__init__()
        pickle.dumps(Generator)  # finds its module by name, as the original's classes do
        self.c_dim, self.cfg = c_dim, cfg
        self.weight = torch.nn.Parameter(torch.randn(z_dim, 3))
    def mapping(self, z, c):
        return bias_act.bias_act(z @ self.weight)
    def synthesis(self, ws, ts, z_motion, noise_mode):
        x = ws.repeat_interleave(len(ts) // len(ws), 0)[:, :, None, None] * ts
        return conv2d_gradfix.run(upfirdn2d.upfirdn2d(x.expand(-1, -1, 32, 32)))
    def use(self):
        return dnnlib.nobody_has_this.get("x")
class OurDiscriminator(torch.nn.Module):
    def __init__(self, c_dim, **_):
        super().__init__()
        self.imageD = torch.nn.Identity()
        self.imageD.c_dim = c_dim
        self.weight = torch.nn.Parameter(torch.randn(()))
    def forward(self, x, c):
        x = x.mean((1, 2, 3))[:, None] * self.weight
        return x, x.repeat(2, 1), None
""",
}


def write_fake(folder: Path) -> Path:
    for name, content in FAKE.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def small(**changes) -> TrainConfig:
    """The official networks with few channels; its loss wants latents of 512."""
    config = TrainConfig(
        batch=4,
        generator=GeneratorConfig(channel_base=1024, channel_max=32, frequencies=8, rank=3),
        discriminator=DiscriminatorConfig(channel_base=1024, channel_max=32, mapping_layers=3),
        **changes,
    )
    return resolve(config, resolution=64, num_classes=3 if config.cond else 0)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
