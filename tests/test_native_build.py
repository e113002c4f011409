"""The native library as it is built, loaded, registered, installed and refused."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import digan
from tests import ptxas
from tests.native_wheel import ROOT, Built, built_wheel, copy_sources
from tests.requirements import require

OPS = (
    "bias_act",
    "bias_act_backward",
    "coord_chain",
    "coord_linear",
    "coord_linear_backward",
    "factorized_modulation",
    "factorized_modulation_backward",
    "fir_resample",
    "fourier_features",
    "fourier_features_at",
    "fourier_features_at_backward",
    "fourier_features_backward",
    "frames_to_uint8",
    "modulated_linear",
    "modulated_linear_backward",
)
# What the library may ask the system for: nothing of one Python, no CUDA, no C++ runtime.
NEEDED = ("libtorch_cpu.so", "libc.so", "libm.so", "libdl.so", "librt.so", "libpthread.so",
          "libgcc_s.so", "ld-linux-x86-64.so", "libc10.so")  # fmt: skip
SHT_DYNAMIC, DT_NEEDED = 6, 1
# Of each spilling kernel one would be told here why it may; there is none.
MAY_SPILL: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def built(toolkit, soak) -> Built:
    return built_wheel(toolkit, whole=soak)


def python(code: str, check: bool = True, **environ: str) -> str:
    """What a fresh Python prints; `check=False` for one that may end badly."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert not check or done.returncode == 0, done.stdout
    return done.stdout.strip()


def compiled(library: Path, body: str) -> Path:
    """A shared object of one C++ file, under its own name."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        require("nvcc", "no host compiler")
    source = library.with_suffix(".cpp")
    source.write_text(body)
    flags = ["-shared", "-fPIC", "-Wl,-z,now", f"-Wl,-soname,{library.name}"]
    subprocess.run([compiler, *flags, "-o", library, source], check=True)
    return library


def needed_libraries(library: Path) -> list[str]:
    """What a 64-bit little-endian ELF file asks the loader for, by its dynamic section."""
    content = library.read_bytes()
    assert content[:6] == b"\x7fELF\x02\x01"
    (table,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<2H", content, 58)
    # Of every section header: type, offset, size, and the section of the names.
    sections = [
        struct.unpack_from("<4x I 16x 2Q I", content, table + size * index)
        for index in range(count)
    ]
    (dynamic,) = (section for section in sections if section[0] == SHT_DYNAMIC)
    _, offset, length, names = dynamic
    entries = struct.iter_unpack("<2Q", content[offset : offset + length])
    starts = [sections[names][1] + value for tag, value in entries if tag == DT_NEEDED]
    return [content[start : content.index(b"\0", start)].decode() for start in starts]


@pytest.mark.soak
class TestLog:
    """What the compilers said."""

    def test_no_warning(self, built):
        said = [line for line in built.log.splitlines() if "warning" in line.lower()]
        assert said == []

    def test_no_kernel_spills(self, built):
        kernels = ptxas.parse(built.log)
        assert {kernel.card for kernel in kernels} == set(built.cards)
        spilling = [
            kernel
            for kernel in kernels
            if kernel.spill_stores + kernel.spill_loads and kernel.name not in MAY_SPILL
        ]
        assert spilling == []

    def test_every_kernel_is_there_for_every_card(self, built):
        every = [k for k in ptxas.parse(built.log) if "_hopper_kernel" not in k.name]
        names = [{k.name for k in every if k.card == card} for card in built.cards]
        assert all(other == names[0] for other in names)
        for op in OPS:
            assert any(op.removesuffix("_backward") in name for name in names[0]), op

    def test_products_of_warpgroups_overlap(self, built):
        """The compiler says so where it waits for each at once, which costs most of their speed."""
        assert "_hopper_kernel" in built.log
        assert [line for line in built.log.splitlines() if "serialized" in line] == []

    def test_parser_sees_spills(self):
        log = (
            "ptxas info    : Compiling entry function '_Zone' for 'sm_80'\n"
            "ptxas info    : Function properties for _Zone\n"
            "    48 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
            "ptxas info    : Used 255 registers, used 1 barriers, 1024 bytes smem\n"
            "ptxas info    : Compiling entry function '_Ztwo' for 'sm_90a'\n"
            "ptxas info    : Function properties for _Ztwo\n"
            "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
            "ptxas info    : Used 16 registers, 380 bytes cmem[0]\n"
        )
        assert ptxas.parse(log) == [
            ptxas.Kernel("_Zone", "sm_80", 255, 48, 8, 12, 1024),
            ptxas.Kernel("_Ztwo", "sm_90a", 16, 0, 0, 0, 0),
        ]
        with pytest.raises(ValueError, match="no figures follow"):
            ptxas.parse(log.splitlines()[0])


@pytest.mark.soak
class TestLibrary:
    """The shared object."""

    def test_needs_no_python_and_no_cuda(self, built):
        needed = needed_libraries(built.library)
        assert "libtorch_cpu.so" in needed
        assert [name for name in needed if not name.startswith(NEEDED)] == []

    def test_names_no_folder_of_the_machine(self, built):
        assert str(ROOT).encode() not in built.library.read_bytes()

    def test_registers_every_op_on_a_cpu_build_too(self, built):
        code = (
            "import json, torch, digan.ops, digan.native as n\n"
            "n.load()\n"
            "has = torch._C._dispatch_has_kernel_for_dispatch_key\n"
            "names = [s.name.split('::')[1] for s in torch._C._jit_get_all_schemas()"
            " if s.name.startswith('digan::')]\n"
            "print(json.dumps({'reason': n.reason(), 'cards': n.architectures(),"
            " 'ops': sorted(o for o in names if has('digan::' + o, 'CUDA'))}))"
        )
        found = json.loads(python(code, DIGAN_NATIVE_LIBRARY=str(built.library)))
        assert found == {
            "reason": "",
            "cards": list(built.architectures),
            "ops": list(OPS),
        }

    def test_kernels_take_what_the_schemas_give(self, built):
        """Every op is called through the dispatcher with all its arguments.

        The kernels are reached by their key, with CPU tensors, and refuse them: that is after
        the arguments have been unpacked, and one too few or too many is refused before.
        """
        code = (
            "import torch, digan.ops, digan.native as n\n"
            "n.load()\n"
            "import torch._C as c\n"
            "t = torch.zeros(2, 2, 2, 2)\n"
            "value = {'Tensor': t, 'Optional[Tensor]': t, 'str': 'relu', 'float': 1.0,\n"
            "  'Optional[float]': None, 'int': 1, 'bool': True, 'List[int]': [1, 1]}\n"
            f"for name in {OPS!r}:\n"
            "    op = getattr(torch.ops.digan, name).default\n"
            "    args = [torch.float32 if a.name == 'dtype' else value[str(a.type)]"
            " for a in op._schema.arguments]\n"
            "    try:\n"
            "        op.redispatch(c.DispatchKeySet(c.DispatchKey.CUDA), *args)\n"
            "    except RuntimeError as error:\n"
            "        print(name, '|', str(error).splitlines()[0])\n"
            "    else:\n"
            "        print(name, '| served')\n"
        )
        printed = python(code, DIGAN_NATIVE_LIBRARY=str(built.library))
        said = dict(line.split(" | ") for line in printed.splitlines())
        assert sorted(said) == sorted(OPS)
        for name, message in said.items():
            assert "args, but the kernel" not in message, (name, message)
            assert "outputs, but the kernel" not in message, (name, message)
            assert message != "served", name


class TestStream:
    """The getter of PyTorch's stream, which is never replaced by the default stream.

    Where PyTorch has CUDA it has its own libtorch_cuda, so a dlopen before the system's sends
    the question for it to another name, that of the stand-ins.
    """

    NAME = "libtorch_cuda_stand_in.so"
    DLOPEN = (
        "#include <dlfcn.h>\n"
        "#include <cstring>\n"
        'extern "C" void* dlopen(const char* name, int mode) noexcept {\n'
        "  using Dlopen = void* (*)(const char*, int);\n"
        '  static const auto next = reinterpret_cast<Dlopen>(dlsym(RTLD_NEXT, "dlopen"));\n'
        '  const bool asked = name != nullptr && std::strcmp(name, "libtorch_cuda.so") == 0;\n'
        f'  return next(asked ? "{NAME}" : name, mode);\n'
        "}\n"
    )
    CODE = (
        "import ctypes, sys, torch\n"
        "stand_in = ctypes.CDLL(sys.argv[1]) if len(sys.argv) > 1 else None\n"
        "torch.ops.load_library('{library}')\n"
        "native = ctypes.CDLL('{library}')\n"
        "native.digan_stream_obstacle.restype = ctypes.c_char_p\n"
        "native.digan_current_stream.restype = ctypes.c_int64\n"
        "print(native.digan_stream_obstacle(), [native.digan_current_stream(i) for i in (0, 3)])"
    )

    def run(self, built: Built, folder: Path, stand_in: str = "") -> str:
        dlopen = compiled(folder / "dlopen.so", self.DLOPEN)
        libraries = [compiled(folder / self.NAME, stand_in)] if stand_in else []
        done = subprocess.run(
            [sys.executable, "-c", self.CODE.format(library=built.library), *map(str, libraries)],
            env={**os.environ, "LD_PRELOAD": str(dlopen)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def test_is_asked_for_the_device(self, built, tmp_path):
        stand_in = (
            'extern "C" int aoti_torch_get_current_cuda_stream(int device, void** stream) {\n'
            "  *stream = reinterpret_cast<void*>(0x1000L + device); return 0; }"
        )
        assert self.run(built, tmp_path, stand_in) == f"None [{0x1000}, {0x1003}]"

    def test_its_failure_is_an_error(self, built, tmp_path):
        stand_in = (
            'extern "C" int aoti_torch_get_current_cuda_stream(int, void** stream) {\n'
            "  *stream = nullptr; return 1; }"
        )
        assert self.run(built, tmp_path, stand_in) == "None [-1, -1]"

    def test_its_absence_is_an_error(self, built, tmp_path):
        printed = self.run(built, tmp_path, "int nothing;")
        assert "does not tell its current CUDA stream" in printed
        assert printed.endswith("[-1, -1]")

    def test_without_cuda_in_pytorch(self, built, tmp_path):
        printed = self.run(built, tmp_path)
        assert "this PyTorch was built without CUDA" in printed
        assert printed.endswith("[-1, -1]")


REASON = (
    "import torch, digan.ops, digan.native as n; n.load(); print(n.reason());"
    "print(torch._C._dispatch_has_kernel_for_dispatch_key('digan::bias_act', 'CUDA'))"
)


class TestRefused:
    """A library that cannot be used: one line, nothing registered, and the import goes on."""

    def refused(self, library: Path) -> str:
        printed = python(REASON, DIGAN_NATIVE_LIBRARY=str(library)).splitlines()
        assert len(printed) == 2, printed
        assert printed[1] == "False"
        return printed[0]

    def test_of_an_older_version(self, built, tmp_path):
        old = tmp_path / "_native.so"
        text = built.library.read_bytes()
        mark = f"digan native library: version {digan.__version__};".encode()
        assert text.count(mark) == 1
        old.write_bytes(text.replace(mark, mark.replace(digan.__version__.encode(), b"0.0.9")))
        assert self.refused(old) == (
            f"{old} is a library of digan 0.0.9, and the package is {digan.__version__}; "
            "reinstall digan"
        )

    @pytest.mark.parametrize("missing", [1, 1000, 1_000_000])
    def test_cut_short(self, built, tmp_path, missing):
        broken = tmp_path / "_native.so"
        broken.write_bytes(built.library.read_bytes()[:-missing])
        assert self.refused(broken) == (
            f"{broken} is no whole native library of digan; reinstall digan"
        )

    def test_that_asks_for_what_this_pytorch_has_not(self, toolkit, tmp_path):
        other = compiled(
            tmp_path / "other.so",
            'extern "C" int no_such_function();\n'
            'extern "C" int digan_cuda_driver() { return no_such_function(); }\n'
            'extern "C" { extern const char text[]; const char text[] = '
            f'"digan native library: version {digan.__version__}; for sm_80; cuda 13000;"; }}\n',
        )
        said = self.refused(other)
        assert said.startswith(f"{other} does not load: ")
        assert "no_such_function" in said

    @pytest.mark.parametrize("content", [b"", b"something else"])
    def test_of_another_kind(self, tmp_path, content):
        other = tmp_path / "other.so"
        other.write_bytes(content)
        assert (
            self.refused(other) == f"{other} is no whole native library of digan; reinstall digan"
        )

    def test_missing(self, tmp_path):
        gone = tmp_path / "gone.so"
        assert self.refused(gone) == f"DIGAN_NATIVE_LIBRARY is {gone}, which is no file"


@pytest.mark.soak
class TestWheel:
    """The wheel with the library in it."""

    def test_serves_every_python_on_one_platform(self, built):
        assert built.wheel.name == f"digan-{digan.__version__}-py3-none-linux_x86_64.whl"
        with zipfile.ZipFile(built.wheel) as archive:
            libraries = [name for name in archive.namelist() if name.endswith(".so")]
            text = archive.read(f"digan-{digan.__version__}.dist-info/WHEEL").decode()
        assert libraries == ["digan/_native.so"]
        assert "Root-Is-Purelib: false" in text

    def test_in_a_clean_environment(self, built, soak, tmp_path):
        """Nothing but the wheel is installed; what it needs is lent by this environment."""
        home = tmp_path / "an environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
        clean = home / "bin" / "python"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--python", str(clean), "install", "--quiet"),
                *("--no-deps", "--no-index", str(built.wheel)),
            ],
            check=True,
            cwd=tmp_path,
        )
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        lent = home / "lib" / version / "site-packages" / "lent.pth"
        lent.write_text(sysconfig.get_paths()["purelib"] + "\n")
        environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DIGAN_OPS")}
        code = "import digan, sys; print(digan.__file__)"
        file = subprocess.run(
            [clean, "-c", code],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert Path(file.strip()).is_relative_to(home)
        done = subprocess.run(
            [home / "bin" / "digan", "info"],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("kernels ")]
        missing = "sm_86, sm_89, sm_100, sm_120, compute_80, compute_120"
        assert line.split(None, 1)[1] == (
            "sm_80, sm_86, sm_89, sm_90a, sm_100, sm_120, compute_80, compute_120"
            if soak
            else f"sm_80, sm_90a (TORCH_CUDA_ARCH_LIST left out {missing})"
        )


class TestBadBuild:
    """What a person sees whose build fails."""

    @pytest.fixture
    def tree(self, tmp_path) -> Path:
        """The sources with nothing in them that takes time to compile."""
        tree = tmp_path / "a tree"
        copy_sources(tree)
        for kind in ("*.cu", "*.cpp"):
            for path in (tree / "csrc").rglob(kind):
                path.write_text("")
        return tree

    def build(self, tree: Path, **environ: str) -> str:
        done = subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", "lib"],
            cwd=tree,
            env={**os.environ, "TORCH_CUDA_ARCH_LIST": "8.0", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode != 0, done.stdout
        assert not list(tree.rglob("_native.so"))
        return done.stdout

    def test_compile_error_in_a_kernel(self, toolkit, tree):
        (tree / "csrc" / "bias_act.cu").write_text("int one = 1;\nint two = missing_name;\n")
        printed = self.build(tree)
        said = printed[printed.index("digan: ", printed.index("compiling")) :].splitlines()
        assert 'bias_act.cu(2): error: identifier "missing_name" is undefined' in said[0]
        log = tree / "build" / "native" / "build.log"
        assert said[1] == (
            f"(the whole log is {log}; mend that, or set DIGAN_BUILD_CUDA=0 to install as pure "
            "Python)"
        )
        assert "missing_name" in log.read_text()
        assert "Traceback" not in printed

    def test_compile_error_in_a_binding(self, toolkit, tree):
        (tree / "csrc" / "binding" / "stream.cpp").write_text('#error "not this time"\n')
        assert "error: #error" in self.build(tree)

    def test_missing_source(self, toolkit, tree):
        (tree / "csrc" / "bias_act.cu").unlink()
        assert "digan: csrc/bias_act.cu is missing from this source tree" in self.build(tree)

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("TORCH_CUDA_ARCH_LIST", "Ampere", "such as 8.0, 9.0a or 8.0+PTX, got 'Ampere'"),
            ("TORCH_CUDA_ARCH_LIST", "7.0 7.5", "must name a card of 8.0 or newer, got '7.0 7.5'"),
            ("MAX_JOBS", "many", "MAX_JOBS must be a positive integer, got 'many'"),
        ],
    )
    def test_bad_setting(self, toolkit, tree, name, value, said):
        printed = self.build(tree, **{name: value})
        assert said in printed
        assert "Traceback" not in printed
