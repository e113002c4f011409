"""Loops of a program that is given as a graph: of every straight piece, which may follow it."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def natural_loops(follows: Sequence[Sequence[int]]) -> list[set[int]]:
    """The pieces of each loop, inner loops before those around them; execution begins at 0.

    A way back closes a loop only where its target lies on every way to it: a compiler puts
    rare cases behind the end of a function, from where they branch back too. Loops with the
    same target are one.
    """
    above = dominators(follows)
    before = _turned(follows, above)
    loops: dict[int, set[int]] = {}
    for piece in above:
        for head in follows[piece]:
            if not _is_above(above, head, piece):
                continue
            loop = loops.setdefault(head, {head})
            ahead = [piece]
            while ahead:
                member = ahead.pop()
                if member not in loop:
                    loop.add(member)
                    ahead += before[member]
    return sorted(loops.values(), key=len)


def dominators(follows: Sequence[Sequence[int]]) -> dict[int, int]:
    """Of every piece that can be reached, the last that lies on all ways to it; 0 has itself.

    The algorithm of Cooper, Harvey and Kennedy, "A simple, fast dominance algorithm" (2001).
    """
    order = _order(follows)
    rank = {piece: index for index, piece in enumerate(order)}
    before = _turned(follows, order)
    above = {0: 0}
    changed = True
    while changed:
        changed = False
        for piece in order[1:]:
            known = [other for other in before[piece] if other in above]
            common = known[0]
            for other in known[1:]:
                while common != other:
                    if rank[common] > rank[other]:
                        common = above[common]
                    else:
                        other = above[other]
            if above.get(piece) != common:
                above[piece] = common
                changed = True
    return above


def _order(follows: Sequence[Sequence[int]]) -> list[int]:
    """What can be reached, each piece before what follows it, loops aside."""
    done: list[int] = []
    seen, path = {0}, [(0, iter(follows[0]))]
    while path:
        piece, rest = path[-1]
        ahead = next((after for after in rest if after not in seen), None)
        if ahead is None:
            done.append(piece)
            path.pop()
        else:
            seen.add(ahead)
            path.append((ahead, iter(follows[ahead])))
    return done[::-1]


def _turned(follows: Sequence[Sequence[int]], reached: Collection[int]) -> dict[int, list[int]]:
    before: dict[int, list[int]] = {piece: [] for piece in reached}
    for piece in reached:
        for after in follows[piece]:
            before[after].append(piece)
    return before


def _is_above(above: dict[int, int], head: int, piece: int) -> bool:
    while piece not in (head, 0):
        piece = above[piece]
    return piece == head
