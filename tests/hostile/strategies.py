"""What the fuzzers draw: damage to bytes, any value of JSON and YAML, lines, command lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

WORDS = (
    b"NaN", b"Infinity", b"1e999", b"-1", b"null", b"[[[[", b'"', b"\0", b"\n", b"{}", b"[]",
    b"99999999999999999999", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"../", b"&a [*a, *a]",
    b"!!timestamp x", b"<<: *a", b"\xed\xa0\x80",
)  # fmt: skip


def rounds(plain: int) -> hypothesis.settings:
    """So many examples in `make test`, and by the profile's measure more in `make soak`."""
    return hypothesis.settings(
        max_examples=max(plain * hypothesis.settings.default.max_examples // 20, 1),
        suppress_health_check=[
            hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large,
        ],
    )  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """A change of some bytes at a place, which is counted modulo their number."""

    kind: str
    at: int
    data: bytes = b""

    def __call__(self, content: bytes) -> bytes:
        """The changed content."""
        at = self.at % (len(content) + 1)
        match self.kind:
            case "cut":
                return content[:at]
            case "write":
                return content[:at] + self.data + content[at + len(self.data) :]
            case "insert":
                return content[:at] + self.data + content[at:]
            case "drop":
                return content[:at] + content[at + len(self.data) :]
            case "double":
                return content + content[at:]
        raise ValueError(self.kind)


@dataclass(frozen=True)
class Damage:
    """Some edits, one after the other; without any the content stays whole."""

    edits: tuple[Edit, ...]

    def __call__(self, content: bytes) -> bytes:
        """The damaged content."""
        for edit in self.edits:
            content = edit(content)
        return content


# Headers stand at the beginning, so places near it are drawn as often as all others.
_places = st.one_of(st.integers(0, 300), st.integers(0, 1 << 20))
_bytes = st.one_of(st.sampled_from(WORDS), st.binary(min_size=1, max_size=12))
_edits = st.builds(Edit, st.sampled_from(["cut", "write", "insert", "drop", "double"]), _places,
                   _bytes)  # fmt: skip
damages = st.lists(_edits, min_size=1, max_size=4).map(lambda edits: Damage(tuple(edits)))

texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "auto", "fp32", "tiny", "all", "../x", "/etc/passwd", "\x1b[31m", "a\nb", "9" * 5000,
         "<script>alert(1)</script>", "\ud800", "\0"]
    ),
)  # fmt: skip
numbers = st.one_of(
    st.integers(-2, 5),
    st.sampled_from([1 << 31, 1 << 63, 1 << 70, -(1 << 70), 10**400, 0.5, 1e-320, 1e308, -1e308]),
    st.floats(),
    st.integers(),
)
plain_values = st.one_of(st.none(), st.booleans(), numbers, texts)
any_values: SearchStrategy[Any] = st.recursive(
    plain_values,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip

_DEEP = 100_000
deep_texts = st.sampled_from(
    ["[" * _DEEP, '{"a":' * _DEEP, "[" * 990 + "]" * 990, '{"kimg":' + "[" * _DEEP]
)
# Texts that stand for more than they hold, or that a tag makes no sense of.
yaml_texts = st.sampled_from(
    [
        "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}, *{p}, *{p}]\n"
                                   for p, c in zip("abcdefghijk", "bcdefghijkl", strict=True)),
        "a: &a {x: 1}\n" + "".join(f"{c}: &{c}\n  <<: [*{p}, *{p}, *{p}, *{p}]\n"
                                   for p, c in zip("abcdefghijk", "bcdefghijkl", strict=True)),
        "&a [*a]", "generator: &a {resolution: *a}", "lr: !!timestamp x", "lr: 2001-02-30",
        "lr: !!int ''", "lr: !!bool x", "lr: !!float x", "lr: !!binary é", "? [a]\n: b",
        "lr: !!python/object/apply:os.system [echo]", "batch: " + "9" * 5000, "lr: 1:99:99.5",
        "lr: !!set {a, b}", "--- a\n--- b", "a: [" * 3000, "%YAML 9.9\n--- {}", "\x00", "",
        "kimg: .inf", "kimg: -.nan", "seed: 0x" + "f" * 400,
    ]
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, base: dict[str, Any]) -> dict[str, Any]:
    """A tree of values with one to four of them replaced, added or taken out at any depth."""
    values: dict[str, Any] = json.loads(json.dumps(base))
    for _ in range(draw(st.integers(1, 4))):
        place: Any = values
        while True:
            keys = [*place] if isinstance(place, dict) else [*range(len(place))]
            key = draw(st.sampled_from([*keys, "unknown"] if isinstance(place, dict) else keys))
            inner = place[key] if key in keys else None
            if not isinstance(inner, (dict, list)) or not inner or draw(st.booleans()):
                break
            place = inner
        if key in keys and draw(st.integers(0, 7)) == 0:
            del place[key]
        else:
            place[key] = draw(any_values)
    return values


def json_lines(row: dict[str, Any]) -> SearchStrategy[str]:
    """Lines of a file of rows: whole ones, changed ones, cut ones, any text, any value."""
    whole = st.just(json.dumps(row))
    line = st.one_of(
        whole,
        changed(row).map(json.dumps),
        st.tuples(whole, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]]),
        any_values.map(json.dumps),
        st.text(max_size=20),
        deep_texts,
    )
    return st.lists(line, max_size=12).map("\n".join)


def to_bytes(text: str) -> bytes:
    """The text as a file may hold it, lone surrogates included, which are no UTF-8."""
    return text.encode("utf-8", "surrogatepass")
