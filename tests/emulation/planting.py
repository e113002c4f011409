"""Where faults are planted in a CUDA source, and how: text in, text out.

Only code of kernels and device functions is touched. The source is formatted by clang-format,
which this reads: comparisons have spaces around them, template brackets have not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One planted fault."""

    number: int
    file: str
    line: int
    kind: str  # barrier, guard, bound, index; choice, value, mask
    what: str

    def __str__(self) -> str:
        return f"#{self.number} {self.file}:{self.line} {self.kind}: {self.what}"


@dataclass(frozen=True)
class _Place:
    """A stretch of code that changes, and how many faults it gets."""

    begin: int
    end: int
    kind: str


_BARRIER = re.compile(
    r"\b(?:__syncthreads\(\)|__syncwarp\(\)|cp_async_wait<[^;]+?>\(\)|fence_\w+\(\)|"
    r"wgmma_(?:fence|commit|wait<\d>)\([^;]*\)|mbarrier_\w+\([^;]*\)|"
    r"named_barrier_\w+\([^;]*\)|tma_store_\w+(?:<\d>)?\(\)|ring\.(?:start|release)\([^;]*\));"
)
_INTEGER = r"(?:const )?(?:int64_t|int32_t|uint32_t|int|unsigned|auto)"
_DEFINITION = re.compile(rf"(?<!constexpr )\b{_INTEGER} \w+ = ")
_BOOLEAN = re.compile(r"(?:\bbool \w+|\b\w+\[\w+\]) = ")
# A pointer that something is added to: a name, or `view_as<float>(name)`.
_BASE = r"(?:\w+|view_as<[\w :<>]+>\(\w+\)) \+\s"
_POINTER = re.compile(rf"\b(?:Global|Shared)<[\w :]+> \w+ = {_BASE}")
_ACCESS = re.compile(r"\b(?:load|store)(?:16|_pack|_several)(?:<[\w, ]+>)?\(")
_TRANSFER = re.compile(r"\b(?:cp_async_16|ldmatrix_x4(?:_trans)?)\(")
_COMPARISON = re.compile(r" (<=|>=|<|>|==|!=) ")
# What index arithmetic looks like where no integer's definition tells: a function that returns an
# integer, an assignment to a member or a name, a step of either, an argument.
_FUNCTION = re.compile(
    rf"(?:\b{_INTEGER} (?:operator\(\)|\w+)\([^()]*\)|\[&\]\(int \w+\))(?: const)? {{"
)
_RETURN = re.compile(r"\breturn ")
_POINTER_RETURN = re.compile(r"\breturn [\w.]+ \+ (?=\()")
_ASSIGNMENT = re.compile(r"(?<=[;{})])\s+(\w+(?:\[[^;={}]*\])?) = ")
_STEP = re.compile(r"(?<=[;{})])\s+(\w+(?:\[[^;={}]*\])?) [-+]= ")
_CALL = re.compile(r"\b(\w+)(?:<[\w, :<>]+>)?([({])")
_ARITHMETIC = re.compile(r"(?<=[\w)\]>]) [-+*/%^] (?=[\w(:])")
_INTEGRAL = re.compile(r"\d+|k[A-Z]\w*|\w*step|static_cast<int>\(.*\)|at_most\(.*\)", re.S)
# What has the numbers that are computed as arguments, not places of them, or is no call.
_NO_PLACES = re.compile(
    r"fma|narrow|widen|__shfl_\w+|sum_over_lanes|sin\w*|cos\w*|exp\w*|log\w*|erf\w*|tanh\w*|"
    r"r?sqrt\w*|abs|fabs\w*|W|T|Wide|static_cast|sizeof|decltype|switch|while|if|for|return"
)
# The numbers themselves: from arrays of registers, or by functions of them.
_NUMBERS = re.compile(r"\bv\[|\b(?:S|W|T|Wide<T>)\(|\bfma\(|\bwiden\(|\[[io]\]|\d\.\d")
_EXTENT = re.compile(r"(?:\w+\.)+(?!grid\b|skip\b|pointwise\b|tables\b)\w+|\d+")  # in braces
_BITS = re.compile(r" ([&|]) |(?:(?<=[ (])|^)(~)")
_LOOSER = {"<": "<=", ">": ">=", "<=": "<", ">=": ">", "==": "!=", "!=": "=="}


def blank_comments(text: str) -> str:
    """The code with comments, strings and preprocessor lines as spaces, in the same places."""

    def spaces(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    words = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#[^\n]*'
    return re.sub(words, spaces, text, flags=re.S | re.M)


def closing(code: str, begin: int) -> int:
    """The place of the bracket that closes the one at `begin`."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    depth = 0
    for i in range(begin, len(code)):
        if code[i] in pairs:
            depth += 1
        elif code[i] in pairs.values():
            depth -= 1
            if depth == 0:
                return i
    raise ValueError("a bracket is not closed")


def device_bodies(code: str) -> list[tuple[int, int]]:
    """The bodies of functions that run on the GPU, from a constructor's first initialiser on."""
    bodies: list[tuple[int, int]] = []
    for marker in re.finditer(r"__global__|__device__", code):
        if bodies and marker.start() < bodies[-1][1]:
            continue
        i = begin = marker.end()
        initialisers = None
        while code[i] not in ";{" or (code[i] == "{" and code[i - 1] not in " \n)"):
            if initialisers is None and re.match(r"\)\s+: ", code[i - 1 : i + 40]):
                initialisers = i
            i = closing(code, i) + 1 if code[i] in "([{" else i + 1
        if code[i] == "{":
            begin = i if initialisers is None else initialisers
            bodies.append((begin, closing(code, i)))
    return bodies


def _end_of_statement(code: str, begin: int) -> int:
    """The semicolon that ends what begins at `begin`, or the bracket of `for`; others skipped."""
    i = begin
    while code[i] not in ";)":
        i = closing(code, i) + 1 if code[i] in "([{" else i + 1
    return i


def _end_of_argument(code: str, begin: int) -> int:
    i = begin
    while code[i] not in ",)":
        i = closing(code, i) + 1 if code[i] in "([{" else i + 1
    return i


def _is_constant(expression: str) -> bool:
    """Of numbers, kName, Class::kName, kName<T>, and a template's capital letters."""
    word = r"(?:(?:[A-Z]\w*::)*k?[A-Z]\w*(?:<[\w :<>]+>)?|\d+)"
    return re.fullmatch(rf"[\s*+]*(?:{word}[\s*+]*)*", expression) is not None


def places_in(code: str, begin: int, end: int) -> list[_Place]:
    """All places of a function's body, in order; none overlaps another without lying in it."""
    found: list[_Place] = []
    for match in _BARRIER.finditer(code, begin, end):
        found.append(_Place(match.start(), match.end(), "barrier"))
    for match in re.finditer(r"\bif \(", code[begin:end]):
        first = begin + match.end()
        found.append(_Place(first, closing(code, first - 1), "guard"))
    for match in re.finditer(r"\bfor \(", code[begin:end]):
        first = begin + match.end()
        start = _end_of_statement(code, first)
        stop = _end_of_statement(code, start + 1)
        equals = code.find("= ", first, start)
        if equals >= 0 and code[first:start].count(",") == 0:
            found.append(_Place(equals + 2, start, "index"))
        found.append(_Place(start + 1, stop, "bound"))
    for match in _DEFINITION.finditer(code, begin, end):
        stop = _end_of_statement(code, match.end())
        words = code[match.end() : stop]
        several = "," in re.sub(r"\(.*\)|<.*>", "", words, flags=re.S)
        in_for = code[: match.start()].endswith("for (")
        if not (in_for or several or "[&]" in words):
            found.append(_Place(match.end(), stop, "index"))
    for match in _BOOLEAN.finditer(code, begin, end):
        stop = _end_of_statement(code, match.end())
        words = code[match.end() : stop]
        if _COMPARISON.search(words) and "?" not in words:
            found.append(_Place(match.end(), stop, "guard"))
    for match in _POINTER.finditer(code, begin, end):
        found.append(_Place(match.end(), _end_of_statement(code, match.end()), "index"))
    for match in _ACCESS.finditer(code, begin, end):
        stop = _end_of_argument(code, match.end())
        found += _summand(code, match.end(), stop)
    for match in _TRANSFER.finditer(code, begin, end):
        found += _of_transfer(code, match.end())
    for match in re.finditer(r"(?<=[\w\])])\[", code[begin:end]):
        first = begin + match.end()
        stop = closing(code, first - 1)
        if not _is_constant(code[first:stop]):
            found.append(_Place(first, stop, "index"))
    found += _values(code, begin, end) + _choices(code, begin, end)
    return _nested(found)


def _values(code: str, begin: int, end: int) -> list[_Place]:
    """Integers that are returned, assigned, added or passed on."""
    found: list[_Place] = []

    def add(first: int, last: int) -> None:
        found.append(_Place(first, last, "value"))

    for function in _FUNCTION.finditer(code, begin - 200 if begin > 200 else 0, end):
        body = function.end() - 1
        if not begin <= body < end:
            continue
        for match in _RETURN.finditer(code, body, closing(code, body)):
            stop = _end_of_statement(code, match.end())
            words = code[match.end() : stop]
            if not (_is_constant(words) or _NUMBERS.search(words)):
                add(match.end(), stop)
    for match in _POINTER_RETURN.finditer(code, begin, end):
        add(match.end(), _end_of_statement(code, match.end()))
    for match in _ASSIGNMENT.finditer(code, begin, end):
        stop = _end_of_statement(code, match.end())
        words = code[match.end() : stop]
        is_pointer = re.match(r"\w+ \+ \(", words)
        is_place = _adds(words) or _INTEGRAL.fullmatch(words)
        if is_pointer or (is_place and re.fullmatch(r"\w+|\w+_\[.*", match[1])):
            add(match.end(), stop)
    for match in _STEP.finditer(code, begin, end):
        stop = _end_of_statement(code, match.end())
        words = code[match.end() : stop]
        place = _INTEGRAL.search(words) or match[1].endswith("_") or _adds(words)
        if place and "[" not in words and not _NO_PLACES.match(words):
            add(match.end(), stop)
    for match in _CALL.finditer(code, begin, end):
        covered = _ACCESS.match(code, match.start()) or _TRANSFER.match(code, match.start())
        if _NO_PLACES.fullmatch(match[1]) or covered:
            continue
        last = closing(code, match.end() - 1)
        if last > end or (match[2] == "{" and code[match.end() - 2] == " "):
            continue
        found += _arguments(code, match.end(), last, extents=match[2] == "{")
    return found


def _arguments(code: str, begin: int, end: int, extents: bool) -> list[_Place]:
    """Those that are a sum, product or remainder; of a type in braces its extents, too."""
    found: list[_Place] = []
    while begin < end:
        begin += len(code[begin:end]) - len(code[begin:end].lstrip())
        stop = begin
        while stop < end and code[stop] != ",":
            stop = closing(code, stop) + 1 if code[stop] in "([{" else stop + 1
        words = code[begin:stop]
        if code[begin] == "{":
            found += _arguments(code, begin + 1, stop - 1, extents=False)
            words = ""
        is_sum = not words.startswith("[&]") and _adds(words) and not _COMPARISON.search(words)
        if is_sum or (extents and _EXTENT.fullmatch(words)):
            found.append(_Place(begin, stop, "value"))
        begin = stop + 1
    return found


def _adds(words: str) -> bool:
    """Whether an expression adds or multiplies, outside of its brackets, what is no constant."""
    outside, i = "", 0
    while i < len(words):
        if words[i] in "([":
            last = closing(words, i)
            outside += words[i] + "_" + words[last]
            i = last
        else:
            outside += words[i]
        i += 1
    numbers = _NUMBERS.search(words)
    plain = " ? " not in outside and "&&" not in outside and "||" not in outside
    return bool(_ARITHMETIC.search(outside) and plain and not numbers and not _is_constant(words))


def _choices(code: str, begin: int, end: int) -> list[_Place]:
    """Conditions of `?`, and expressions of bits."""
    found: list[_Place] = []
    for match in re.finditer(r"\s\? ", code[begin:end]):
        stop = begin + match.start()
        first = _begin_of_expression(code, stop)
        if not _is_constant(_COMPARISON.sub(" + ", code[first:stop])):
            found.append(_Place(first, stop, "choice"))
    for match in _BITS.finditer(code, begin, end):
        first = _begin_of_expression(code, match.start() + 1)
        stop = match.end()
        while code[stop] not in ",;)]}?":
            stop = closing(code, stop) + 1 if code[stop] in "([{" else stop + 1
        found.append(_Place(first, stop, "mask"))
    return found


_BEFORE = re.compile(r"(?: [-+&|*/]?=|\s\?|\s:|\breturn)\s+$")


def _begin_of_expression(code: str, end: int) -> int:
    """Behind the bracket, comma, `=`, `? `, `: ` or `return` that the expression stands behind."""
    depth = 0
    i = end
    while depth or not (code[i - 1] in "([{,;" or _BEFORE.search(code, max(0, i - 80), i)):
        i -= 1
        depth += (code[i] in ")]}") - (code[i] in "([{")
    return i + len(code[i:end]) - len(code[i:end].lstrip())


def _is_smaller_or_larger(code: str, condition: _Place) -> bool:
    """`a < b ? a : b`, which is the same with `<=`."""
    plain = " ".join(code[condition.begin : condition.end].split())
    branches = re.compile(r"\s\? +(.*?)\s+: (.*?)[;,)]", re.S).match(code, condition.end)
    sides = _COMPARISON.split(plain)
    if branches is None or len(sides) != 3:
        return False

    def bare(words: str) -> str:
        return re.sub(r"static_cast<\w+>|[()\s]", "", words)

    return {bare(sides[0]), bare(sides[2])} == {bare(branches[1]), bare(branches[2])}


def _summand(code: str, begin: int, end: int) -> list[_Place]:
    """What an argument adds to its pointer."""
    plus = re.match(rf"\s*{_BASE}", code[begin:end])
    return [_Place(begin + plus.end(), end, "index")] if plus else []


def _of_transfer(code: str, begin: int) -> list[_Place]:
    """The pointers of a copy or of an ldmatrix, and the condition of a copy."""
    found: list[_Place] = []
    end = closing(code, begin - 1)
    while begin < end:
        stop = _end_of_argument(code, begin)
        found += _summand(code, begin, stop)
        if _COMPARISON.search(code[begin:stop]):
            found.append(_Place(begin, stop, "guard"))
        begin = stop + 1
    return found


def _nested(places: list[_Place]) -> list[_Place]:
    kept: list[_Place] = []
    for place in sorted(places, key=lambda p: (p.begin, -p.end)):
        crossing = any(k.begin < place.begin < k.end < place.end for k in kept)
        same = any(
            (k.begin, k.end) == (place.begin, place.end)
            and (k.kind == place.kind or {k.kind, place.kind} == {"index", "value"})
            for k in kept
        )
        same = same or any(
            k.kind == "barrier" and k.begin <= place.begin < k.end for k in kept
        )  # its depth is a constant
        if not (crossing or same or place.begin == place.end):
            kept.append(place)
    return kept


def plant(text: str, file: str, first: int, dropped: set[int]) -> tuple[str, list[Fault]]:
    """The source with all faults in it, numbered from `first`, and what they are.

    Lines stay where they are. Places on the lines of `dropped` are left alone.
    """
    code = blank_comments(text)
    places: list[_Place] = []
    for begin, end in device_bodies(code):
        for place in places_in(code, begin, end):
            lines = range(code.count("\n", 0, place.begin) + 1, code.count("\n", 0, place.end) + 2)
            if not dropped & set(lines):
                places.append(place)
    faults: list[Fault] = []

    def new(place: _Place, what: str) -> int:
        line = text.count("\n", 0, place.begin) + 1
        faults.append(Fault(first + len(faults), file, line, place.kind, what))
        return faults[-1].number

    def looser(place: _Place, plain: str, match: re.Match[str]) -> bool:
        """Whether it matters: not where a number is met with a constant, which it never hits."""
        constant = re.match(r"-?\d", plain[match.end() :]) is not None
        return not (constant or _is_smaller_or_larger(code, place))

    def render(begin: int, end: int, inside: list[_Place]) -> str:
        out, at, i = "", begin, 0
        while i < len(inside):
            place = inside[i]
            own = [p for p in inside[i + 1 :] if p.begin < place.end]
            out += text[at : place.begin] + change(place, own)
            at = place.end
            i += 1 + len(own)
        return out + text[at:end]

    def change(place: _Place, own: list[_Place]) -> str:
        plain = " ".join(code[place.begin : place.end].split())  # on one line, lines stay
        body = render(place.begin, place.end, own)
        if place.kind == "barrier":
            return f"if (!::emu::mutant({new(place, f'no {plain}')})) {{ {body} }}"
        if place.kind in ("index", "value"):
            return f"::emu::off_by_one({new(place, f'{plain} + 1')}, {body})"
        choices = ""
        if place.kind == "mask":
            for match in _BITS.finditer(plain):
                operator = {"&": "|", "|": "&", "~": ""}[match[1] or match[2]]
                begin, end = match.span(1 if match[1] else 2)
                other = plain[:begin] + operator + plain[end:]
                choices += f"::emu::mutant({new(place, other)}) ? ({other}) : "
            return f"({choices}({body}))"
        if place.kind in ("guard", "choice"):
            choices += f"::emu::mutant({new(place, f'not ({plain})')}) ? !({plain}) : "
        for match in _COMPARISON.finditer(plain):
            operator = match[1]
            # `!=` for `==` alone is the negation, which is there already.
            if place.kind != "bound" and operator in ("==", "!=") and _is_single(plain):
                continue
            if place.kind == "choice" and not looser(place, plain, match):
                continue
            other = plain[: match.start(1)] + _LOOSER[operator] + plain[match.end(1) :]
            choices += f"::emu::mutant({new(place, other)}) ? ({other}) : "
        return f"({choices}({body}))" if choices else body

    return render(0, len(text), places), faults


def _is_single(condition: str) -> bool:
    return len(_COMPARISON.findall(condition)) == 1 and "&&" not in condition
