"""The original implementation, run from a user's checkout beside ours on the same weights.

`load_official` imports it; its networks are built at the sizes of our configuration, our
networks take their weights, and `check_agreement` shows that both then compute the same.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from digan.bench.official_code import CURE, Checkout
from digan.bench.official_ops import OPS, OpWatch, Plugins, QuietWarnings
from digan.bench.official_training import OfficialIteration, published_settings
from digan.config import DiscriminatorConfig, GeneratorConfig, TrainConfig
from digan.errors import DiganError
from digan.formats import from_yaml
from digan.grid import SpaceTimeGrid
from digan.nn import Generator, PairDiscriminator
from digan.nn.official import discriminator_state, generator_state
from digan.ops import Impl

Arithmetic = Literal["published", "float32"]
"""published: as its train.py has it, the discriminators' blocks of the four highest resolutions
in float16 and all else in float32; float32: everything."""

HALF_RESOLUTIONS = 4  # of its train.py; the generator has none, by `fp32: true` in digan.yml
AGREEMENT = 1e-5


@dataclass(frozen=True)
class Agreement:
    """Relative errors norm(original - ours) / norm(ours), over all values of each output."""

    frames: float
    video_logits: float
    image_logits: float


class OfficialCode:
    """The original's code, loaded; its networks and its training on request.

    Attributes:
        path: the checkout. commit: its commit, or a digest of its sources.
    """

    def __init__(self, path: Path, build_folder: Path | None) -> None:
        self._checkout = Checkout(path)
        self.path = self._checkout.path
        self.commit = self._checkout.commit()
        load = self._checkout.module
        self._plugins = Plugins(load("torch_utils.custom_ops"), build_folder)
        self._ops = {name: load(f"torch_utils.ops.{name}") for name in OPS}
        networks, losses = load("training.networks"), load("training.loss")
        self._generator_class = self._member(networks, "Generator")
        self._discriminator_class = self._member(networks, "OurDiscriminator")
        self._loss_class = self._member(losses, "OurStyleGAN2Loss")
        for op in self._ops.values():
            op.warnings = QuietWarnings()
        # As its training loop sets them before anything else.
        self._ops["conv2d_gradfix"].enabled = True
        self._ops["grid_sample_gradfix"].enabled = True
        settings = self._yaml("configs/digan.yml")
        self._generator_settings: dict[str, Any] = settings["generator"]
        self._loss_settings = dict(settings["loss_kwargs"])
        self._loss_settings.pop("r1_gamma", None)  # comes from the configuration
        arguments = self._yaml("configs/main.yml")["train_args"]
        self._augmentation = arguments.get("diffaugment", "color,translation")

    def _member(self, module: Any, name: str) -> Any:
        if not hasattr(module, name):
            file = module.__name__.replace(".", "/")
            raise DiganError(
                f"--official: {self.path}/src/{file}.py has no {name}, which the original "
                f"has: {CURE}"
            )
        return getattr(module, name)

    def _yaml(self, name: str) -> dict[str, Any]:
        wanted = ("generator", "loss_kwargs") if name.endswith("digan.yml") else ("train_args",)
        try:
            content = from_yaml((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DiganError(f"--official: {self.path}/{name} cannot be read: {reason}") from error
        for key in wanted:
            if not isinstance(content, dict) or not isinstance(content.get(key), dict):
                raise DiganError(f"--official: {self.path}/{name} has no entry {key}: {CURE}")
        return dict(content)

    def generator(self, config: GeneratorConfig, seed: int, device: torch.device | str) -> Any:
        """Its generator with random weights, in evaluation mode and without gradients.

        Raises:
            DiganError: a size that its configuration has no entry for.
        """
        return self._built(
            self._generator_class,
            seed,
            device,
            z_dim=config.latent_dim,
            c_dim=config.num_classes,
            w_dim=config.latent_dim,
            img_resolution=config.resolution,
            img_channels=3,
            ours=True,
            mapping_kwargs={"num_layers": config.mapping_layers},
            synthesis_kwargs={
                "channel_base": config.channel_base,
                "channel_max": config.channel_max,
                "num_fp16_res": 0,
                "conv_clamp": config.clamp,
            },
            cfg=self._settings_for(config),
        )

    def _settings_for(self, config: GeneratorConfig) -> dict[str, Any]:
        """Its configs/digan.yml with our sizes; references inside of it are left to it."""
        settings = copy.deepcopy(self._generator_settings)
        try:
            coordinates = settings["coords"]
            for group in ("low_res_cfg", "medium_res_cfg"):
                coordinates[group]["predictable_emb_size"] = config.frequencies
            coordinates["motion_sigma"] = config.motion_scale
            settings["fmm"]["rank"] = config.rank
            known = {int(resolution) for resolution in coordinates["res_configs"]}
        except (KeyError, TypeError, ValueError) as error:
            raise DiganError(
                f"--official: {self.path}/configs/digan.yml lacks {error} under generator: {CURE}"
            ) from error
        if config.resolution not in known:
            raise DiganError(
                f"--official: its configs/digan.yml has no resolution {config.resolution}, "
                f"only {', '.join(map(str, sorted(known)))}"
            )
        return settings

    def discriminators(
        self,
        config: DiscriminatorConfig,
        seed: int,
        device: torch.device | str,
        *,
        arithmetic: Arithmetic = "published",
    ) -> Any:
        """Its pair of discriminators with random weights, in evaluation mode, no gradients."""
        return self._built(
            self._discriminator_class,
            seed,
            device,
            c_dim=config.num_classes,
            img_resolution=config.resolution,
            img_channels=3,
            ours=True,
            channel_base=config.channel_base,
            channel_max=config.channel_max,
            num_fp16_res=HALF_RESOLUTIONS if arithmetic == "published" else 0,
            conv_clamp=config.clamp,
            block_kwargs={},
            mapping_kwargs={"num_layers": config.mapping_layers},
            epilogue_kwargs={"mbstd_group_size": config.group_size},
        )

    def _built(self, kind: Any, seed: int, device: torch.device | str, **arguments: Any) -> Any:
        # The weights are a function of the seed; the global generator is left as it was.
        with self._checkout.inside(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = kind(**arguments)
        return network.eval().requires_grad_(False).to(device)

    def frames(
        self, generator: Any, z: Tensor, z_motion: Tensor, t: Tensor, label: Tensor | None = None
    ) -> Tensor:
        """Its frames [B, T, H, W, 3], by the two calls that its own forward makes.

        Its forward draws motion codes and times itself; here they are arguments. All else,
        memory included, is as it comes: wrap the call in `torch.no_grad` as its scripts do.

        Args:
            generator: its generator. z, z_motion: latents [B, D]. t: [B, T].
            label: classes [B], conditional networks only.
        """
        count = t.shape[1]
        ws = generator.mapping(z, _one_hot(label, generator.c_dim, z))
        times = t.to(ws).reshape(-1, 1, 1, 1)
        images: Tensor = generator.synthesis(ws, times, z_motion, noise_mode="const")
        return images.view(-1, count, *images.shape[1:]).permute(0, 1, 3, 4, 2)

    def logits(
        self, discriminators: Any, frames: Tensor, dt: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Its logits of pairs [B] and of frames [2B].

        Args:
            discriminators: its pair. frames: [B, 2, 3, H, W] in [-1, 1]. dt: [B].
            label: classes [B], conditional networks only.
        """
        images = frames.flatten(1, 2)
        plane = dt.to(frames.dtype).view(-1, 1, 1, 1) * torch.ones_like(images[:, :1])
        code = _one_hot(label, discriminators.imageD.c_dim, frames)
        video, image, _ = discriminators(torch.cat([images, plane], dim=1), code)
        return video[:, 0], image[:, 0]

    def iteration(
        self,
        config: TrainConfig,
        seed: int,
        device: torch.device | str,
        *,
        arithmetic: Arithmetic = "published",
        wide_reals: bool = True,
    ) -> OfficialIteration:
        """Its networks in training; see `OfficialIteration`. Time it in `published_settings`."""
        generator = self.generator(config.generator, seed, device)
        discriminators = self.discriminators(
            config.discriminator, seed, device, arithmetic=arithmetic
        )
        with self._checkout.inside():
            average = copy.deepcopy(generator)
        augmentation = self._augmentation if config.augment else ""
        return OfficialIteration(
            self._loss_class,
            {**self._loss_settings, "diffaugment": augmentation},
            config,
            generator,
            discriminators,
            average,
            wide_reals=wide_reals,
        )

    def op(self, name: str) -> Any:
        """The module of one of its ops: bias_act, upfirdn2d, ..."""
        return self._ops[name]

    def watch(self) -> OpWatch:
        """A context that records which path its ops take; ask for `paths()` afterwards."""
        return OpWatch(self._ops, self._plugins)


def load_official(path: Path | str, *, build_folder: Path | None = None) -> OfficialCode:
    """Imports the original from a checkout.

    Args:
        path: the checkout's root. build_folder: keeps its compiled plugins for the next time;
            None builds them, when first needed, in a temporary folder.

    Raises:
        DiganError: not a checkout of the original, or its code does not load.
    """
    return OfficialCode(Path(path), build_folder)


def copied_generator(
    theirs: Any,
    config: GeneratorConfig,
    *,
    impl: Impl | None = None,
    dtype: torch.dtype | None = None,
) -> Generator:
    """Our generator with the weights of its generator, on the same device."""
    ours = Generator(config, impl=impl, dtype=dtype)
    _take_weights(ours, theirs, generator_state)
    return ours


def copied_discriminators(
    theirs: Any,
    config: DiscriminatorConfig,
    *,
    impl: Impl | None = None,
    dtype: torch.dtype | None = None,
) -> PairDiscriminator:
    """Our discriminators with the weights of its pair, on the same device."""
    ours = PairDiscriminator(config, impl=impl, dtype=dtype)
    _take_weights(ours, theirs, lambda state: discriminator_state(state, config.resolution))
    return ours


def check_agreement(
    code: OfficialCode,
    config: TrainConfig,
    *,
    batch: int = 2,
    frames: int = 2,
    seed: int = 0,
    device: torch.device | str = "cpu",
    impl: Impl | None = None,
    tolerance: float = AGREEMENT,
) -> Agreement:
    """Both implementations on the same weights, latents and times, in float32.

    Biases, which are zero at first, get random values here, so that none goes unused.

    Args:
        code: the original. config: resolved settings. batch: B. frames: T, at least 2.
        seed: of weights, latents and times. impl: path of our ops.
        tolerance: what the relative error of each output must stay below.

    Raises:
        DiganError: the weights do not fit, or an error is too large, with all three.
    """
    draw = torch.Generator().manual_seed(seed)
    g_config, d_config = config.generator, config.discriminator
    g_theirs = _stirred(code.generator(g_config, seed, device), draw)
    d_theirs = _stirred(code.discriminators(d_config, seed, device, arithmetic="float32"), draw)
    g_ours = copied_generator(g_theirs, g_config, impl=impl).eval().requires_grad_(False)
    d_ours = copied_discriminators(d_theirs, d_config, impl=impl).eval().requires_grad_(False)
    z, z_motion = torch.randn(2, batch, g_config.latent_dim, generator=draw).to(device)
    t = torch.rand(batch, frames, generator=draw, dtype=torch.float64).to(device)
    classes = g_config.num_classes
    label = torch.randint(classes, (batch,), generator=draw).to(device) if classes else None
    with torch.no_grad(), published_settings():
        videos = code.frames(g_theirs, z, z_motion, t, label)
        error = _relative(videos, g_ours(z, z_motion, SpaceTimeGrid(t), label))
        # Both judge the same pairs, so that the discriminators' errors are theirs alone.
        pairs = videos[:, :2].permute(0, 1, 4, 2, 3).contiguous()
        dt = (t[:, 1] - t[:, 0]).to(pairs.dtype)
        theirs, ours = code.logits(d_theirs, pairs, dt, label), d_ours(pairs, dt, label)
    found = Agreement(error, *(_relative(a, b) for a, b in zip(theirs, ours, strict=True)))
    if not all(error < tolerance for error in dataclasses.astuple(found)):
        raise DiganError(
            f"--official: the original at {code.commit} and digan disagree: relative error of "
            f"frames {found.frames:.2e}, video logits {found.video_logits:.2e}, image logits "
            f"{found.image_logits:.2e}; each must be below {tolerance:.0e}"
        )
    return found


def op_paths(
    code: OfficialCode,
    config: TrainConfig,
    *,
    device: torch.device | str = "cpu",
    arithmetic: Arithmetic = "published",
    seed: int = 0,
) -> dict[str, str]:
    """The path of each of its ops in one forward and backward through all its networks.

    Returns:
        For bias_act, upfirdn2d, conv2d_gradfix and grid_sample_gradfix: "its CUDA plugin",
        "its slow PyTorch fallback (reason)", "disabled on this PyTorch (reason)", "not called".
    """
    generator = code.generator(config.generator, seed, device).requires_grad_(True)
    discriminators = code.discriminators(
        config.discriminator, seed, device, arithmetic=arithmetic
    ).requires_grad_(True)
    draw = torch.Generator().manual_seed(seed)
    z, z_motion = torch.randn(2, 1, config.generator.latent_dim, generator=draw).to(device)
    t = torch.tensor([[0.25, 0.75]], device=device)
    label = torch.zeros(1, dtype=torch.int64, device=device) if generator.c_dim else None
    with code.watch() as watch, torch.enable_grad():
        pair = code.frames(generator, z, z_motion, t, label).permute(0, 1, 4, 2, 3)
        video, image = code.logits(discriminators, pair, t[:, 1] - t[:, 0], label)
        torch.autograd.backward(video.sum() + image.sum())
    return watch.paths()


def _one_hot(label: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """[B, classes], which has no columns if unconditional."""
    if label is None:
        return torch.zeros(len(like), classes, device=like.device)
    return nn.functional.one_hot(label, classes).to(like.device, torch.float32)


def _take_weights(ours: nn.Module, theirs: nn.Module, renamed: Any) -> None:
    state = theirs.state_dict()
    ours.to(next(iter(state.values())).device)
    try:
        ours.load_state_dict(renamed(state))
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DiganError(f"--official: its weights do not fit our network: {reason}") from error


def _stirred(network: Any, draw: torch.Generator) -> Any:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                noise = torch.randn(parameter.shape, generator=draw)
                parameter.add_(noise.to(parameter.device), alpha=0.1)
    return network


def _relative(theirs: Tensor, ours: Tensor) -> float:
    a, b = theirs.double(), ours.double()
    return float((a - b).norm() / b.norm())
