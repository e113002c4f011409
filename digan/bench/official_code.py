"""Importing the original's own code from a user's checkout, and leaving no trace of it.

Nothing of the original is part of this package, and nothing in the checkout is touched. What a
newer Python or NumPy or a missing package breaks is mended in memory, for its modules alone:
outside of `Checkout.inside` no import, no search path and no NumPy differs from before.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import re
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from digan.errors import DiganError

SOURCE = "https://github.com/sihyun-yu/digan"
CURE = f"get a checkout with `git clone {SOURCE}`"
FILES = (
    "configs/digan.yml",
    "configs/main.yml",
    "src/dnnlib/__init__.py",
    "src/torch_utils/custom_ops.py",
    "src/torch_utils/ops/bias_act.py",
    "src/torch_utils/ops/conv2d_gradfix.py",
    "src/torch_utils/ops/grid_sample_gradfix.py",
    "src/torch_utils/ops/upfirdn2d.py",
    "src/training/diffaugment.py",
    "src/training/loss.py",
    "src/training/networks.py",
)
# Names of Python's own types that NumPy had until 1.24.
NUMPY_ALIASES: dict[str, type] = {
    "bool": bool, "complex": complex, "float": float, "int": int, "object": object, "str": str,
}  # fmt: skip
_MOST_OF_A_MESSAGE = 300


class Checkout:
    """The original's modules, loaded from a folder and visible to nobody who does not ask.

    Args:
        path: root of a checkout, which has the folders src and configs.

    Raises:
        DiganError: no such folder, or not a checkout of the original.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise DiganError(f"--official: there is no folder {path}: {CURE}")
        self.path = path.resolve()
        for name in FILES:
            if not (self.path / name).is_file():
                raise DiganError(
                    f"--official: {path} is no checkout of the original, {name} is missing: {CURE}"
                )
        source = self.path / "src"
        self._names = {"src"} | {
            entry.stem for entry in source.iterdir() if entry.is_dir() or entry.suffix == ".py"
        }
        self._modules: dict[str, ModuleType] = {}

    def commit(self) -> str:
        """Short name of what was loaded: a commit, `<commit>+changes`, or `sha256:<digest>`.

        The digest is over src/**/*.py, of a folder that is not the root of a git checkout.
        """
        if self._git("rev-parse", "--show-toplevel") == str(self.path):
            head = self._git("rev-parse", "--short=12", "HEAD")
            changes = self._git("status", "--porcelain", "--untracked-files=no")
            if head and changes is not None:
                return head + ("+changes" if changes else "")
        digest = hashlib.sha256()
        for file in sorted((self.path / "src").rglob("*.py")):
            digest.update(file.relative_to(self.path).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
        return f"sha256:{digest.hexdigest()[:12]}"

    def _git(self, *arguments: str) -> str | None:
        # Without optional locks git reads and never refreshes its index in the checkout.
        command = ["git", "--no-optional-locks", "-C", str(self.path), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def module(self, name: str) -> Any:
        """One of the original's modules by its own name, such as `training.networks`.

        A package that is not installed here gets a stand-in: einops.rearrange and OmegaConf,
        which are used, work; anything of another is an error once it is called.

        Raises:
            DiganError: the code does not load, with the place in the original.
        """
        with self.inside():
            return self._imported(name)

    def _imported(self, name: str) -> ModuleType:
        while True:
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                if not self._put_stand_in(error):
                    raise
                continue
            return module

    def _put_stand_in(self, error: ModuleNotFoundError) -> bool:
        """A stand-in for a package that the original, and no other code, just failed to find."""
        absent = error.name or ""
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        files = [f.f_code.co_filename for f in frames if not f.f_code.co_filename.startswith("<")]
        by_original = bool(files) and Path(files[-1]).is_relative_to(self.path)
        top = absent.partition(".")[0]
        if not absent or not by_original or top in self._names or absent in self._modules:
            return False
        module = _STAND_INS[absent]() if absent in _STAND_INS else _AbsentPackage(absent)
        self._modules[absent] = sys.modules[absent] = module
        return True

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The original's names can be imported here, and afterwards whatever had them before.

        Its networks must also be built and copied in here: their classes look for their own
        module by name. Not to be entered by two threads at once.

        Raises:
            DiganError: for whatever the original raises, in one line with the place.
        """
        _load_extension_builder()
        names = self._names | {name.partition(".")[0] for name in self._modules}
        displaced = _taken_out(names)
        path, seen = sys.path[:], set(sys.path_importer_cache)
        writes_bytecode = sys.dont_write_bytecode
        aliases = [name for name in NUMPY_ALIASES if name not in vars(np)]
        sys.modules.update(self._modules)
        sys.path[:0] = [str(self.path / "src"), str(self.path)]
        sys.dont_write_bytecode = True
        for name in aliases:
            setattr(np, name, NUMPY_ALIASES[name])
        try:
            yield
        except DiganError:
            raise
        except (Exception, SystemExit) as error:
            raise DiganError(self._complaint(error)) from error
        finally:
            for name in aliases:
                delattr(np, name)
            sys.dont_write_bytecode = writes_bytecode
            sys.path[:] = path
            for entry in set(sys.path_importer_cache) - seen:
                if Path(entry).is_relative_to(self.path):
                    del sys.path_importer_cache[entry]
            names |= {name.partition(".")[0] for name in self._modules}
            self._modules.update(_taken_out(names))
            sys.modules.update(displaced)
            _give_old_numpy(self._modules.values())

    def _complaint(self, error: BaseException) -> str:
        """One line: the checkout, the place in it, what happened."""
        text = " ".join(str(error).split())[:_MOST_OF_A_MESSAGE]
        if isinstance(error, SyntaxError) and error.filename:
            place: str | None = self._place(error.filename, error.lineno)
            text = error.msg
        else:
            frames = list(traceback.walk_tb(error.__traceback__))
            places = [self._place(f.f_code.co_filename, line) for f, line in frames]
            place = next((p for p in reversed(places) if p), None)
        where = f", {place}" if place else ""
        what = f"{type(error).__name__}: {text}"
        if isinstance(error, ModuleNotFoundError):
            what = f"there is no module {error.name}"
        return f"--official: the code in {self.path} does not run{where}: {what}; {CURE}"

    def _place(self, file: str, line: int | None) -> str | None:
        if not Path(file).is_relative_to(self.path):
            return None
        return f"{Path(file).relative_to(self.path).as_posix()}:{line}"


def _load_extension_builder() -> None:
    """Loads what the original imports of PyTorch, before any stand-in can be met by it.

    It brings setuptools, which on newer Pythons is what provides distutils.
    """
    try:
        importlib.import_module("torch.utils.cpp_extension")
    except ModuleNotFoundError as error:
        raise DiganError(
            f"--official: PyTorch's builder of extensions needs the package {error.name}, "
            "which is not installed"
        ) from error


def _taken_out(names: set[str]) -> dict[str, ModuleType]:
    """Removes packages with all they contain from the loaded modules, and returns them."""
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}


def _give_old_numpy(modules: Iterable[ModuleType]) -> None:
    """Lets functions that run later see the NumPy of their time; everyone else keeps ours."""
    for module in modules:
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is np:
                setattr(module, name, _OLD_NUMPY)


def _old_numpy() -> ModuleType:
    view = ModuleType("numpy", "NumPy with the names of Python's types that it once had.")
    vars(view).update({**NUMPY_ALIASES, **vars(np)})
    return view


_OLD_NUMPY = _old_numpy()


# ------------------------------------------------------------- stand-ins of missing packages


class _AbsentPackage(ModuleType):
    """A package that is not installed. What it would hold can be imported and not be used."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self.__name__}.{name}")


class _Absent:
    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: Any, **__: Any) -> Any:
        package = self._name.partition(".")[0]
        raise DiganError(
            f"--official: the original calls {self._name}, and the package {package} is not "
            "installed; install it beside digan"
        )

    __call__ = __mro_entries__ = __enter__ = __iter__ = __getitem__ = _refuse

    def __getattr__(self, name: str) -> _Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self._name}.{name}")


def rearrange(x: Tensor, pattern: str, **sizes: int) -> Tensor:
    """Permutes, splits and merges axes, `"b (t c) h w -> (b t) c h w"`, as einops does.

    Each side names all axes; an axis in parentheses is the product of those inside, of which
    one may have a size that is not given. The result is a view where a reshape can be one.
    """
    left, right = (
        [group.strip("()").split() for group in re.findall(r"\([^)]*\)|\w+", side)]
        for side in pattern.split("->")
    )
    known = dict(sizes)
    for group, size in zip(left, x.shape, strict=True):
        given = math.prod(known.get(axis, 1) for axis in group)
        known.update({axis: size // given for axis in group if axis not in known})
    axes = [axis for group in left for axis in group]
    order = [axes.index(axis) for group in right for axis in group]
    merged = [math.prod(known[axis] for axis in group) for group in right]
    return x.reshape([known[axis] for axis in axes]).permute(order).reshape(merged)


class Settings(dict[str, Any]):
    """A dict whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class _OmegaConf:
    @staticmethod
    def create(content: dict[str, Any]) -> Any:
        return settings_of(content)


def settings_of(content: dict[str, Any]) -> Any:
    """Nested dicts as `Settings`; a value `"${a.b}"` becomes what stands at a.b of the whole."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return Settings({str(k): filled(v) for k, v in value.items()})
        if isinstance(value, list | tuple):
            return [filled(v) for v in value]
        reference = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if reference is None:
            return value
        target: Any = content
        for key in reference[1].split("."):
            target = target[key]
        return filled(target)

    return filled(content)


def _einops() -> ModuleType:
    module = ModuleType("einops")
    vars(module).update(rearrange=rearrange)
    return module


def _omegaconf() -> ModuleType:
    module = ModuleType("omegaconf")
    vars(module).update(OmegaConf=_OmegaConf, DictConfig=Settings)
    return module


_STAND_INS = {"einops": _einops, "omegaconf": _omegaconf}
