"""`digan watch`: its lines, its page, and the report that a run leaves."""

from __future__ import annotations

import re

import pytest

from digan.cli import main
from digan.training.loop import train
from digan.watching import describe_run, read_history, write_report
from digan.watching.curves import curves
from digan.watching.terminal import course
from tests.tiny_runs import tiny_config
from tests.watching.made import made_run, made_samples


def test_a_course_goes_from_the_least_to_the_largest():
    assert course([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert course([5.0, 5.0]) == "▁▁"
    assert course([0.0, float("nan"), 1.0]) == "▁ █"
    assert course([]) == ""
    long = course([float(i) for i in range(1000)])
    assert len(long) == 40
    assert (long[0], long[-1]) == ("▁", "█")
    assert list(long) == sorted(long)


def test_the_lines(tmp_path):
    run = made_run(tmp_path, metric=[{"fd-random3d": 9.25}])
    lines = describe_run(read_history(run))
    assert lines[0] == str(run)
    assert re.fullmatch(
        r"running at 20 of 100 kimg \(20%\), (\dh )?\d+m \d\ds left, last news .* ago", lines[1]
    )
    text = "\n".join(lines)
    for words in ("loss, generator", "gradient norm, D", "R1, pairs", "waiting for data",
                  "memory, GB", "seconds a kimg"):  # fmt: skip
        assert re.search(rf"  {words} +[\d.]+%? ", text), words
    assert "fd-random3d                 9.25" in text
    assert "floor 1, shuffled 17, frozen 30, mean frame 52" in text
    assert "distance 1.00 of the data's, change 1.00 of the data's" in text
    assert "!" not in text


def test_the_command_prints_once_where_there_is_no_terminal(tmp_path, capsys):
    run = made_run(tmp_path, change=lambda _, row: row.update(data_wait_share=0.5))
    page = tmp_path / "page.html"
    assert main(["watch", str(tmp_path), "--page", str(page)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "! waiting for data: 50% of the time" in out
    assert "Waiting for data." in page.read_text()
    assert not (run / "report.html").exists()  # it only reads


@pytest.mark.parametrize(
    ("words", "message"),
    [(["nowhere"], "the run nowhere is no folder"), (["."], "is no run of digan train"),
     ([".", "--every", "0"], "every must be positive and finite, got 0.0")],
)  # fmt: skip
def test_bad_input(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *words]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_the_page(tmp_path):
    run = made_run(tmp_path, metric=[{"fd-random3d": 9.0}, {"fd-random3d": 4.0}])
    made_samples(run, 0, 5, 10)
    page = write_report(run).read_text()
    assert page.count("<svg") == 9  # seven statistics, the metric, diversity and motion
    assert page.count("data:image/png;base64,") == 5  # three grids, two strips
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)
    assert "Running at 20 of 100 kimg" in page


def test_the_page_escapes_what_it_shows(tmp_path):
    evil = '<script>alert("x")</script>'
    run = made_run(tmp_path, status={"reason": evil}, log=f"WARNING: {evil} non-finite\n")
    (run / f"metric-{evil.replace('/', '')}.jsonl").write_text(
        '{"kimg": 1, "results": {"<script>alert(\\"x\\")<script>": 2.0}}\n'
    )
    page = write_report(run).read_text()
    assert "alert(" in page
    assert "<script>alert" not in page


def test_a_page_without_readable_samples(tmp_path):
    run = made_run(tmp_path, 0)
    (run / "fakes000003.mp4").write_bytes(b"no video")
    page = write_report(run).read_text()
    assert "3 kimg: " in page
    assert "No numbers yet." in page


def test_curves():
    assert curves({}) == ""
    assert curves({"a": []}) == ""
    assert "<circle" in curves({"a": [(1.0, 2.0)]})
    drawn = curves({"a<": [(0.0, 1.0), (10.0, 100.0)], "b": [(0.0, 10.0), (10.0, 10.0)]},
                   logarithmic=True)  # fmt: skip
    assert "a&lt;" in drawn
    first, second = re.findall(r'points="([^"]*)"', drawn)
    ys = [[float(p.split(",")[1]) for p in line.split()] for line in (first, second)]
    assert ys[0][0] > ys[1][0] > ys[0][1]  # downwards; 10 lies between 1 and 100
    middle = (ys[0][0] + ys[0][1]) / 2
    assert abs(ys[1][0] - middle) < 3  # in the middle, of a logarithmic axis
    many = curves({"a": [(float(i), float(i % 7)) for i in range(100_000)]})
    assert len(many) < 20_000


@pytest.mark.usefixtures("few_samples")
def test_a_run_leaves_its_report(store, tmp_path, monkeypatch):
    run = train(tiny_config(), store, tmp_path, progress=False).run
    page = (run / "report.html").read_text()
    assert "Finished at 0.024 of 0.024 kimg" in page
    assert page.count("data:image/png;base64,") == 3
