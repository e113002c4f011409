"""The package's docstrings as reStructuredText.

They are written to be read in the source: a formula is an indented block without `::`, short
arguments share a line, one text may be about two of them, and |x| is an absolute value. This
extension says all that in the markup that Sphinx reads. The sections are Google's: Args,
Attributes, Returns, Yields and Raises, an entry `name: text` or `name, name: text`.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import textwrap
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
_TITLES = {"Args": "Parameters"}
_NAMED = {"Args", "Attributes", "Raises"}  # sections of entries; the others are texts
_ITEM = re.compile(r"\s*([-*]|\d+\.) ")
_ENTRY = re.compile(r"(\w+(?:, \w+)*): ?(.*)", re.DOTALL)
_NEXT_ENTRY = re.compile(r"(?<=[.)]) (?=(\w+)(?:, \w+)*: )")
_CODE = re.compile(r"(`[^`]*`)")


def _is_indented(line: str) -> bool:
    return line[:1].isspace() and bool(line.strip())


def _escaped(line: str) -> str:
    """Bars outside code, which would be substitutions."""
    parts = _CODE.split(line)
    return "".join(p if p.startswith("`") else p.replace("|", r"\|") for p in parts)


def _texts(lines: list[str], names: set[str]) -> list[str]:
    """The entries of a section: "B: videos. T: frames" are two if T is a name."""
    entries: list[str] = []
    for line in textwrap.dedent("\n".join(lines)).splitlines():
        cuts = [0]
        for found in _NEXT_ENTRY.finditer(line):
            if found[1] in names or found[1].endswith("Error"):
                cuts.append(found.end())
        parts = [line[a:b] for a, b in zip(cuts, [*cuts[1:], len(line)], strict=True)]
        if entries and (_is_indented(line) or not line.strip()):
            entries[-1] += "\n" + parts.pop(0)
        entries += [part.strip() for part in parts]
    return entries


def _section(title: str, lines: list[str], names: set[str]) -> list[str]:
    """A section as a field, as Sphinx shows its own."""
    done = ["", f":{_TITLES.get(title, title)}:"]
    if title in _NAMED:
        for entry in _texts(lines, names):
            found = _ENTRY.fullmatch(entry)
            head, text = (found[1].split(", "), found[2]) if found else ([], entry)
            mark = "`{}`" if title == "Raises" else "**{}**"
            text = ", ".join(map(mark.format, head)) + (" – " if head else "") + text
            inner = [_escaped(line.strip()) for line in text.splitlines()]
            done += ["    * " + inner[0], *["      " + line for line in inner[1:]]]
    else:
        done += ["    " + line for line in to_markup(_dedented(lines), names)]
    return [*done, ""]


def _dedented(lines: list[str]) -> list[str]:
    return textwrap.dedent("\n".join(lines)).splitlines()


def _steps(lines: list[str]) -> list[str]:
    """Numbered steps of a paragraph, a line each, though several may share one."""
    text = " ".join(line.strip() for line in lines)
    cuts: list[int] = []
    for number in range(1, 100):
        at = re.search(rf"(?:^|(?<=\s)){number}\. ", text)
        if at is None or (cuts and at.start() <= cuts[-1]):
            break
        cuts.append(at.start())
    ends = [*cuts[1:], len(text)]
    return [_escaped(text[a:b].strip()) for a, b in zip(cuts, ends, strict=True)]


def _end_of_block(lines: list[str], place: int) -> int:
    """The line behind the indented lines that begin at `place`, blank ones among them."""
    end = place
    while end < len(lines) and (_is_indented(lines[end]) or not lines[end].strip()):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end


def _end_of_paragraph(lines: list[str], place: int) -> int:
    end = place + 1
    while end < len(lines) and lines[end].strip():
        if _is_indented(lines[end]) and not _ITEM.match(lines[place]):
            break
        end += 1
    return end


def to_markup(lines: list[str], names: set[str]) -> list[str]:
    """The lines of a docstring, without its indentation, as reStructuredText.

    Args:
        lines: the docstring.
        names: of the parameters or fields.
    """
    done: list[str] = []
    place = 0
    while place < len(lines):
        line, section = lines[place], _SECTION.match(lines[place])
        if not line.strip():
            end = place + 1
            done.append("")
        elif section and place + 1 < len(lines) and _is_indented(lines[place + 1]):
            end = _end_of_block(lines, place + 1)
            done += _section(section[1], lines[place + 1 : end], names)
        elif _is_indented(line):  # a formula
            end = _end_of_block(lines, place)
            block = _dedented(lines[place:end])
            done += ["", ".. code-block:: text", "", *["    " + text for text in block], ""]
        else:
            end = _end_of_paragraph(lines, place)
            text = lines[place:end]
            done += _steps(text) if line.startswith("1. ") else [_escaped(t) for t in text]
        place = end
    return done


def _names(obj: Any) -> set[str]:
    names = set(getattr(obj, "__annotations__", {}))
    with contextlib.suppress(TypeError, ValueError):
        names |= set(inspect.signature(obj).parameters)
    return names


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrites a docstring in place."""
    lines[:] = to_markup(lines, _names(obj))


def backquotes(
    name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Any,
    options: Any = None,
    content: Any = (),
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """What single backquotes hold is code, and a link if it names something documented."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", text):
        return [nodes.literal(rawtext, text)], []
    role = inliner.document.settings.env.domains["py"].role("obj")
    found: tuple[list[nodes.Node], list[nodes.system_message]]
    found = role("py:obj", rawtext, text, lineno, inliner, options or {}, content)
    return found


def no_link(app: Sphinx, env: Any, node: Any, content: nodes.Element) -> Any:
    """A name in single backquotes that is not documented is no mistake."""
    return content if node.get("reftype") == "obj" else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the extension."""
    app.connect("autodoc-process-docstring", process)
    app.add_role("code-or-link", backquotes)
    app.connect("missing-reference", no_link)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
