"""Shapes are read from the margin of a source, and signatures are as the source has them."""

from __future__ import annotations

import pytest

from docs.shapes import RESULT, shapes_in, shapes_of, signature_in

OP = '''
def blend(
    x: Tensor,  # [B, ..., I]
    table: Tensor | None = None,  # type: ignore
    weights: Sequence[
        Tensor
    ] = (),  # [O, I] each
    *,
    y, z: float = "#no",  # [H], [W]
    impl: _registry.Impl | None = None,
) -> Tensor:  # [B, ..., O]
    """Text with a # and, more = 1  # [not, this]."""
    inner = 1  # [nor, this]
'''

CLASS = '''
@dataclass(frozen=True)
class Pair:
    """Two."""

    frames: Tensor  # [2, 3, H, W] uint8
    label: int = -1  # class, -1 without
    names: list[str] = field(default_factory=list)
    plain: int = field(default=0, repr=False)

    def take(self, index: Tensor) -> Pair:  # [n]
        return self
'''

MADE = """
    class Layer(Base):
        kind: str  # [no field of the signature]

        def __init__(self, size: int, *, scale: Tensor | None = None) -> None:  # [S]
            other = 1

        def forward(
            self,
            x: Tensor,  # [N, I]
        ):
            return x
"""


def test_the_margin_of_a_function_is_read():
    assert shapes_in(OP) == {
        "x": "[B, ..., I]",
        "weights": "[O, I] each",
        "y": "[H], [W]",
        "z": "[H], [W]",
        RESULT: "[B, ..., O]",
    }


def test_the_margin_of_a_class_is_that_of_its_fields():
    assert shapes_in(CLASS) == {"frames": "[2, 3, H, W] uint8", "label": "class, -1 without"}


def test_a_comment_on_one_line_with_parameters_is_about_the_result():
    assert shapes_in("def f(w: Tensor) -> Tensor:  # [B, D] -> [B, O, I]\n    return w\n") == {
        RESULT: "[B, D] -> [B, O, I]"
    }


@pytest.mark.parametrize(
    "source", ["def f(x):\n    pass\n", "class C:\n    pass\n", "x = 1  # [B]"]
)
def test_nothing_is_found_where_nothing_is(source):
    assert shapes_in(source) == {}


def test_signatures_keep_the_names_of_the_source():
    class Tensor: ...

    Tensor.__module__, Tensor.__qualname__ = "digan.somewhere", "Tensor"
    aliases = {"_registry.Impl": "digan.ops.Impl"}
    assert signature_in(OP, {"Tensor": Tensor}, aliases) == (
        "(x: ~digan.somewhere.Tensor, table: ~digan.somewhere.Tensor | None = None, "
        "weights: Sequence[~digan.somewhere.Tensor] = (), *, y, z: float = '#no', "
        "impl: digan.ops.Impl | None = None)",
        "~digan.somewhere.Tensor",
    )


def test_signatures_of_classes():
    assert signature_in(CLASS, {}, {}) == (
        "(frames: Tensor, label: int = -1, names: list[str] = list(), plain: int = 0)",
        None,
    )
    assert signature_in(MADE, {}, {}) == ("(size: int, *, scale: Tensor | None = None)", None)
    assert signature_in("class C(Base):\n    pass\n", {}, {}) is None


def test_a_method_loses_its_first_parameter():
    source = "def f(self, a=1, *rest, b: int, **others) -> None: ..."
    assert signature_in(source, {}, {}, bound=True) == ("(a=1, *rest, b: int, **others)", "None")


def test_the_package_has_shapes():
    assert shapes_of("digan.ops", "modulated_linear")["x"] == "[B, ..., I]"
    assert shapes_of("digan.ops", "modulated_linear_reference")[RESULT] == "[B, ..., O]"
    assert shapes_of("digan.nn.layers", "ToRGB.write") == {RESULT: "[B, D] -> [B, 3, I]"}
    assert shapes_of("digan.data.datasets", "PairBatch")["frames"] == "[B, 2, 3, H, W] uint8"
    assert shapes_of("math", "sin") == shapes_of("digan.nowhere", "x") == {}
