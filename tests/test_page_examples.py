"""The reader of Markdown pages notices what a page says wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.page_examples import commands_of, examples_of, run_examples

PAGE = """
```python
import torch
a = torch.zeros(2, 3)  # [2, 3] zeros
```

text

```output
```

```python
(b,) = [a.sum(0)]  # [3]
print(b.tolist())
```

```output
[0.0, 0.0, 0.0]
```

    digan generate --seeds 0-3   # a comment
    digan train ...

```console
$ digan info --json
{}
```
"""


def page_of(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_blocks_are_one_program(tmp_path):
    assert [example.line for example in examples_of(PAGE)] == [2, 12]
    assert sorted(run_examples(page_of(tmp_path, PAGE), {"given": 1})) >= ["__builtins__", "a", "b"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("[2, 3] zeros", "[2, 4] zeros"), ("# [3]", "# [1]"), ("[0.0, 0.0, 0.0]", "[0.0, 0.0]")],
)
def test_a_wrong_shape_or_output_is_caught(tmp_path, right, wrong):
    with pytest.raises(AssertionError):
        run_examples(page_of(tmp_path, PAGE.replace(right, wrong)))


def test_an_error_points_into_the_page(tmp_path):
    page = page_of(tmp_path, PAGE.replace("a.sum(0)", "a.sum(5)"))
    with pytest.raises(IndexError) as caught:
        run_examples(page)
    code = caught.tb.tb_next.tb_next
    assert (code.tb_frame.f_code.co_filename, code.tb_lineno) == (str(page), 13)


def test_commands_are_found():
    assert commands_of(PAGE) == [
        ["digan", "generate", "--seeds", "0-3"],
        ["digan", "info", "--json"],
    ]
