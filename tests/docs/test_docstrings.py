"""Docstrings become markup that says what they say in the source."""

from __future__ import annotations

import inspect

from docs.docstrings import to_markup


def markup(text: str, *names: str) -> str:
    lines = to_markup(inspect.cleandoc(text).splitlines(), set(names))
    return "\n".join(line for line in lines if line.strip())


def test_an_indented_block_is_a_formula():
    text = """
    Adds. With a bound on |y|, but `a | b` as it is:
        y = |x|
          + 1

    More.
    """
    assert markup(text) == (
        "Adds. With a bound on \\|y\\|, but `a | b` as it is:\n"
        ".. code-block:: text\n"
        "    y = |x|\n"
        "      + 1\n"
        "More."
    )


def test_entries_may_share_a_line_and_a_text():
    text = """
    Args:
        x, weight: one dtype, any
            strides. Note: no more.
        z: latents [B, D]. label: classes (0, 1). seed: the run's.

    Raises:
        ValueError: shapes that do not fit. TypeError: mixed dtypes.
    """
    assert markup(text, "x", "weight", "z", "label", "seed") == (
        ":Parameters:\n"
        "    * **x**, **weight** – one dtype, any\n"
        "      strides. Note: no more.\n"
        "    * **z** – latents [B, D].\n"
        "    * **label** – classes (0, 1).\n"
        "    * **seed** – the run's.\n"
        ":Raises:\n"
        "    * `ValueError` – shapes that do not fit.\n"
        "    * `TypeError` – mixed dtypes."
    )


def test_results_are_texts_and_text_may_follow():
    text = """
    Returns:
        Two: a tensor,
        and more.

    Source: a paper.
    """
    assert markup(text) == ":Returns:\n    Two: a tensor,\n    and more.\nSource: a paper."


def test_steps_that_share_a_line_are_a_list():
    text = """
    In this order:

    1. insert 2. zeros; 2. pad;
    3. convolve with
    taps.
    """
    assert markup(text) == ("In this order:\n1. insert\n2. zeros; 2. pad;\n3. convolve with taps.")


def test_lists_keep_their_items():
    text = """
    Of three:

    - one
      or so
    - two
    """
    assert markup(text) == "Of three:\n- one\n  or so\n- two"
