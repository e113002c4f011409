"""Signatures as they stand in the source, with the shapes that stand behind them.

The sources say the shape of a tensor in a comment at its line,

    x: Tensor,  # [B, ..., I]

and Python forgets comments. This extension reads them from the source again, of functions,
methods and the fields of classes, and puts them behind the parameters. The signature itself
is taken from there too: a type keeps the short name that the source gives it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import io
import sys
import textwrap
import tokenize
from html import escape
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

RESULT = "return"
FORMULA = "_reference"
_FOR_TOOLS = ("type:", "noqa", "fmt:", "pragma")
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_NO_SOURCE = (TypeError, OSError, SyntaxError, tokenize.TokenError)


def _parsed(source: str) -> tuple[ast.stmt, dict[int, str]]:
    """A definition, and the comment behind the code of every line that has one, by number."""
    source = textwrap.dedent(source)
    margin = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.lstrip("#").strip()
        behind_code = token.line[: token.start[1]].strip()
        if token.type == tokenize.COMMENT and behind_code and not text.startswith(_FOR_TOOLS):
            margin[token.start[0]] = text
    return ast.parse(source).body[0], margin


def _parameters(node: _Function) -> list[tuple[str, ast.arg, ast.expr | None]]:
    """Every parameter: what stands before its name, itself, and its default."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + given.defaults
    found = [("", *pair) for pair in zip(plain, defaults, strict=True)]
    found += [("*", given.vararg, None)] if given.vararg else []
    found += [("", *pair) for pair in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return found + ([("**", given.kwarg, None)] if given.kwarg else [])


def _of_function(node: _Function, margin: dict[int, str]) -> dict[str, str]:
    found = {}
    # What stands behind the result is about the result, on one line with the parameters too.
    last = 0 if node.returns is None else node.returns.end_lineno or 0
    for _, argument, default in _parameters(node):
        line = (default or argument).end_lineno or 0
        if line in margin and line != last:
            found[argument.arg] = margin[line]
    if last in margin:
        found[RESULT] = margin[last]
    return found


def _fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    """The annotated fields of a class, in order."""
    return [p for p in node.body if isinstance(p, ast.AnnAssign) and isinstance(p.target, ast.Name)]


def _init(node: ast.ClassDef) -> _Function | None:
    found = [p for p in node.body if isinstance(p, _Function) and p.name == "__init__"]
    return found[0] if found else None


def shapes_in(source: str) -> dict[str, str]:
    """The margin comments in the source of one function or class.

    Returns:
        The text behind every parameter or field that has one; "return" is the result.
    """
    node, margin = _parsed(source)
    if isinstance(node, _Function):
        return _of_function(node, margin)
    if not isinstance(node, ast.ClassDef):
        return {}
    found = {ast.unparse(f.target): margin.get(f.end_lineno or 0, "") for f in _fields(node)}
    init = _init(node)
    if init is not None:
        found |= _of_function(init, margin)
        found.pop(RESULT, None)
    return {name: text for name, text in found.items() if text}


def _bare(found: Any) -> Any:
    """The function or class behind a method, property or wrapper."""
    found = getattr(found, "__func__", found)
    return inspect.unwrap(found.fget if isinstance(found, property) else found)


@functools.cache
def shapes_of(module: str, name: str) -> dict[str, str]:
    """The margin comments of `module.name`; empty for what has none, or no source."""
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = inspect.getattr_static(found, part)
        shapes = shapes_in(inspect.getsource(_bare(found)))
    except (ImportError, AttributeError, ValueError, *_NO_SOURCE):
        return {}
    if not shapes and name.endswith(FORMULA):  # written without shapes: those of its op
        return shapes_of(module, name.removesuffix(FORMULA))
    return shapes


class _FullNames(ast.NodeTransformer):
    """Types by the names under which the reference has them, so that they become links."""

    def __init__(self, scope: dict[str, Any], aliases: dict[str, str]) -> None:
        self.scope, self.aliases = scope, aliases

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """A dotted name: of an alias, or as it is."""
        return ast.Name(self.aliases.get(ast.unparse(node), ast.unparse(node)))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A short name."""
        value = self.scope.get(node.id)
        if node.id in self.aliases:
            return ast.Name(self.aliases[node.id])
        if isinstance(value, type) and value.__module__ != "builtins":
            return ast.Name(f"~{value.__module__}.{value.__qualname__}")  # shown short
        return node


def _written(name: str, kind: ast.expr | None, default: ast.expr | None) -> str:
    text = name if kind is None else f"{name}: {ast.unparse(kind)}"
    if isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
        given = {k.arg: ast.unparse(k.value) for k in default.keywords}
        made = f"{given['default_factory']}()" if "default_factory" in given else given["default"]
        return f"{text} = {made}"
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if kind else f"{text}={ast.unparse(default)}"


def signature_in(
    source: str, scope: dict[str, Any], aliases: dict[str, str], *, bound: bool = False
) -> tuple[str, str | None] | None:
    """The signature in the source of a function or class: (parameters, result).

    Args:
        source: of one function or class.
        scope: names of its module.
        aliases: names of types, and what to call them.
        bound: leave out the first parameter.

    Returns:
        None for a class that has neither fields nor `__init__`.
    """
    node, _ = _parsed(source)
    full = _FullNames(scope, aliases)
    kind = None
    if isinstance(node, ast.ClassDef):
        init = _init(node)
        if init is None:
            fields = [(ast.unparse(f.target), f.annotation, f.value) for f in _fields(node)]
            texts = [_written(name, full.visit(kind), value) for name, kind, value in fields]
            return (f"({', '.join(texts)})", None) if texts else None
        node, bound = init, True
    elif isinstance(node, _Function) and node.returns is not None:
        kind = ast.unparse(full.visit(node.returns))
    if not isinstance(node, _Function):
        return None
    texts = []
    for stars, argument, default in _parameters(node)[bound:]:
        if node.args.kwonlyargs and argument is node.args.kwonlyargs[0] and not node.args.vararg:
            texts.append("*")
        annotation = argument.annotation and full.visit(argument.annotation)
        texts.append(_written(stars + argument.arg, annotation, default))
    return f"({', '.join(texts)})", kind


def write_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str, result: str
) -> tuple[str, str | None] | None:
    """Autodoc's question for the signature of what it describes."""
    if what not in ("function", "method", "class"):
        return None
    bare = _bare(obj)
    scope = vars(sys.modules.get(bare.__module__, sys))
    try:
        source = inspect.getsource(bare)
    except _NO_SOURCE:
        return None
    bound = what == "method" and "staticmethod" not in source.split("def ")[0]
    return signature_in(source, scope, app.config.signature_aliases, bound=bound)


def _mark_signature(signature: addnodes.desc_signature) -> None:
    shapes = shapes_of(signature.get("module") or "", signature.get("fullname") or "")
    for parameters in signature.findall(addnodes.desc_parameterlist):
        for parameter in parameters.findall(addnodes.desc_parameter):
            name = parameter.next_node(addnodes.desc_sig_name)
            if name is not None and name.astext() in shapes:
                parameter["shape"] = shapes[name.astext()]
                parameters["multi_line_parameter_list"] = True
                parameters["multi_line_trailing_comma"] = True
    place = signature.next_node(addnodes.desc_returns)
    if RESULT in shapes and place is not None:
        place += nodes.inline("", f"  # {shapes[RESULT]}", classes=["shape"])


def mark(app: Sphinx, domain: str, objtype: str, content: addnodes.desc_content) -> None:
    """Writes the shapes into the signatures of an object that has just been described."""
    if domain == "py" and content.parent is not None:
        for signature in content.parent.findall(addnodes.desc_signature):
            if signature.parent is content.parent:
                _mark_signature(signature)


class ShapeTranslator(HTML5Translator):
    """HTML with the shape of a parameter behind the comma that follows it."""

    def depart_desc_parameter(self, node: Any) -> None:
        """Closes the parameter's line."""
        super().depart_desc_parameter(node)
        if "shape" in node:
            before = len(self.body) - (self.body[-1] == "</dd>\n")
            self.body.insert(before, f'<span class="shape">  # {escape(node["shape"])}</span>')


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the extension."""
    app.add_config_value("signature_aliases", {}, "env", types=[dict])
    app.connect("autodoc-process-signature", write_signature)
    app.connect("object-description-transform", mark)
    app.set_translator("html", ShapeTranslator)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
