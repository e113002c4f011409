"""The `digan` command: parse, call, report. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from digan import __version__
from digan.errors import DiganError


@dataclass(frozen=True)
class Verb:
    """One verb: its line in the overview, and where its arguments and its work are."""

    summary: str
    module: str  # in digan.verbs


VERBS: dict[str, Verb] = {
    "demo": Verb("train a small model on a small video set and show what it makes", "demo"),
    "prepare": Verb("make a training store from videos or frame folders", "prepare"),
    "data check": Verb("report on a store: counts, lengths, damage, a contact sheet", "data_check"),
    "train": Verb("train a model, or continue a run", "train"),
    "watch": Verb("show a run as it goes, with warnings", "watch"),
    "generate": Verb("make videos with a trained network", "generate"),
    "evaluate": Verb("measure a network or a folder of videos: FVD, KVD, IS", "evaluate"),
    "inspect": Verb("show what a network has learned: frequencies, phases, blocks", "inspect"),
    "invert": Verb(
        "find the codes of a clip; show its past, its future, what lies between", "invert"
    ),
    "showcase": Verb("write one page with everything a network can show", "showcase"),
    "import": Verb("open an official checkpoint without running its code", "import_"),
    "bench": Verb("measure ops, synthesis, training and clip loader on this machine", "bench"),
    "info": Verb("versions, devices, and which path every op takes here", "info"),
}


def overview() -> str:
    """The text of `digan --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            f"digan {__version__}: video GANs built on implicit neural representations",
            "",
            "usage: digan VERB [options]        digan VERB --help shows a verb's options",
            "",
            *lines,
            "",
            "  --version  print the version      --debug  show tracebacks of errors",
            "",
            "Exit status: 0 done, 1 failed, 2 wrong usage.",
        ]
    )


class UsageError(Exception):
    """A wrong command line; exit status 2."""


def choose_verb(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The verb that the arguments begin with, and the rest.

    Raises:
        UsageError: no such verb; names the nearest.
    """
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in VERBS:
            return name, list(arguments[words:])
    firsts = sorted({name.split()[0] for name in VERBS})
    if arguments[0] in firsts:
        seconds = [name.split()[1] for name in VERBS if name.startswith(arguments[0] + " ")]
        raise UsageError(f"digan {arguments[0]} needs one of: {', '.join(seconds)}")
    near = difflib.get_close_matches(arguments[0], firsts, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"there is no verb {arguments[0]!r}{hint} (digan --help lists them)")


def load_verb(name: str) -> Callable[[list[str]], int]:
    """The function that runs a verb on its arguments and returns the exit status."""
    from importlib import import_module

    run: Callable[[list[str]], int] = import_module(f"digan.verbs.{VERBS[name].module}").run
    return run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("DIGAN_DEBUG"))
    words = [word for word in words if word != "--debug"]
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview(), flush=True)
            return 0
        if words[0] == "--version":
            print(f"digan {__version__}")
            return 0
        name, rest = choose_verb(words)
        return load_verb(name)(rest)
    except UsageError as error:
        return _fail(error, 2, debug)
    except DiganError as error:
        return _fail(error, 1, debug)
    except KeyboardInterrupt:
        print("digan: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a path that cannot even be looked at, whatever it was given for
        if error.filename is None:
            raise
        return _fail(DiganError(_about_path(error)), 1, debug)
    except UnicodeEncodeError as error:  # a name of bytes that are no text; not all we use takes it
        name = ascii(error.object[max(error.start - 100, 0) : error.end + 20])
        return _fail(DiganError(f"names of files must be UTF-8, got ...{name}..."), 1, debug)
    except ValueError as error:  # as Python says it of any path, which came from a file of settings
        if "embedded null" not in str(error):
            raise
        return _fail(DiganError("names of files must not hold the character NUL"), 1, debug)


def _about_path(error: OSError) -> str:
    name = os.fsdecode(error.filename) if not isinstance(error.filename, int) else "a file"
    return f"{name[:200]} cannot be used: {error.strerror or error}"


def _fail(error: Exception, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    detail = getattr(error, "detail", "")
    print(f"digan: error: {' '.join(str(error).removesuffix(detail).split())}", file=sys.stderr)
    if detail:
        print(detail, file=sys.stderr)
    return status


# Flags that stand for a value of another.
_SHORT_FORMS = {
    "--fused-kernels": ["--kernels", "fused"],
    "--no-fused-kernels": ["--kernels", "reference"],
}


def parse(kind: type[Any], arguments: list[str], name: str, default: Any = None) -> Any:
    """A verb's arguments as a dataclass; tyro prints help and usage errors and exits.

    Args:
        kind: the dataclass; its docstring is the help. arguments: what followed the verb.
        name: the verb. default: an instance with the defaults, or None.
    """
    import tyro

    for given in arguments:
        near = difflib.get_close_matches(given, _SHORT_FORMS, n=1, cutoff=0.85)
        if near and given not in _SHORT_FORMS:
            raise UsageError(f"there is no flag {given!r}, did you mean {near[0]!r}?")
    words = [word for given in arguments for word in _SHORT_FORMS.get(given, [given])]
    options = {} if default is None else {"default": default}
    # Left alone, tyro would drop the docstring's examples.
    text = inspect.cleandoc(kind.__doc__ or "")
    return tyro.cli(kind, args=words, prog=f"digan {name}", description=text, **options)
