"""Figures: the right points on the front, labels that can be read, and files that stay the same."""

from __future__ import annotations

import warnings
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ift_lightning.reporting.comparisons import ArmScore, ScoreTable
from ift_lightning.reporting.curves import read_curves
from ift_lightning.reporting.figures import fonts
from ift_lightning.reporting.figures.labels import place_labels, spread_labels
from ift_lightning.reporting.figures.rates import draw_rows, rate_mark
from ift_lightning.reporting.figures.scores import Cost, draw_costs, draw_curves, pareto_front
from ift_lightning.reporting.figures.style import DARK, LIGHT, save_figure
from ift_lightning.reporting.judgement import Rate
from ift_lightning.reporting.scores import score_info


def test_the_pareto_front_by_hand() -> None:
    costs, scores = [1, 2, 2, 3, 4, 4], [10, 10, 20, 15, 30, 30]
    assert pareto_front(costs, scores, higher_is_better=True) == [0, 2, 4, 5]
    assert pareto_front(costs, [-s for s in scores], higher_is_better=False) == [0, 2, 4, 5]
    assert pareto_front([1, 1], [1, 2], higher_is_better=False) == [0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_pareto_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    front = pareto_front(*zip(*points, strict=True), higher_is_better=True)
    for i, (cost, score) in enumerate(points):
        beaten = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        assert (i in front) == (not beaten)


def test_names_do_not_cover_each_other() -> None:
    points = [(100.0 + 4 * i, 100.0 + 3 * (i % 2)) for i in range(5)]
    sizes = [(50.0, 12.0)] * 5
    offsets = place_labels(points, sizes, (0, 0, 400, 300), gap=9)
    boxes = []
    for (x, y), (dx, dy), (width, height) in zip(points, offsets, sizes, strict=True):
        left = x + dx - (width if dx < 0 else 0)
        boxes.append((left, y + dy - height / 2, left + width, y + dy + height / 2))
    for a, b in combinations(boxes, 2):
        assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])


def test_labels_at_line_ends_are_moved_apart_in_their_order() -> None:
    placed = spread_labels([1.0, 1.0, 5.0, 1.1], 0.5)
    assert placed[2] == 5.0
    ordered = sorted(placed)
    assert all(b - a > 0.499 for a, b in zip(ordered, ordered[1:], strict=False))
    assert placed[3] > placed[1]


SUBTYPES = [Rate("差一错误", 3, 5), Rate("无缺陷", 4, 4)]


def draw(theme):
    labels, _ = fonts.drawable([rate.name for rate in SUBTYPES])
    return draw_rows(labels, {"m": [rate_mark(r) for r in SUBTYPES]}, theme, axis="accuracy (%)")


@pytest.mark.parametrize("has_font", [True, False])
def test_chinese_labels_are_drawn_or_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_font: bool
) -> None:
    if has_font and fonts.cjk_family() is None:
        pytest.skip("no Chinese font on this machine (Debian: fonts-wqy-microhei)")
    if not has_font:
        monkeypatch.setattr(fonts, "cjk_family", lambda: None)
    labels, legend = fonts.drawable(["差一错误", "all", "无缺陷", "差一错误"])
    if has_font:
        assert legend == {}
    else:
        assert labels == ["label 1", "all", "label 2", "label 1"]
        assert legend == {"label 1": "差一错误", "label 2": "无缺陷"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is a warning
        save_figure(tmp_path, "f", draw, alt="", caption="")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_is_the_same_file_every_time(tmp_path: Path) -> None:
    first = save_figure(tmp_path / "a", "f", draw, alt="", caption="")
    second = save_figure(tmp_path / "b", "f", draw, alt="", caption="")
    assert first.svg_light == second.svg_light
    assert (tmp_path / "a" / "f.png").read_bytes() == (tmp_path / "b" / "f.png").read_bytes()
    assert LIGHT.background in first.svg_light
    assert DARK.background in first.svg_dark
    assert (tmp_path / "a" / "f.svg").read_text() == first.svg_light


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_colours_stand_out_from_the_ground(theme) -> None:
    def contrast(color: str) -> float:
        pair = sorted([_luminance(color), _luminance(theme.background)])
        return (pair[1] + 0.05) / (pair[0] + 0.05)

    assert contrast(theme.foreground) > 12
    assert contrast(theme.muted) > 4.5
    # The second rank of the palette is lighter; names stand beside every series besides.
    assert min(contrast(color) for color in theme.series[:3]) > 3
    assert min(contrast(color) for color in theme.series) > 2


def test_curves_are_read_from_tensorboard_and_csv(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path / "a" / "tensorboard"))
    for step in range(1, 1501):
        writer.add_scalar("train/loss", step, step)
    writer.add_scalar("val/loss", 0.5, 9)
    writer.add_scalar("val/loss", float("nan"), 19)
    writer.add_scalar("other", 1.0, 1)
    writer.close()
    curves = read_curves(tmp_path / "a")
    assert set(curves) == {"train/loss", "val/loss"}
    assert curves["train/loss"] == [(step, step) for step in range(1, 1501)]
    assert curves["val/loss"] == [(10, 0.5)]

    (tmp_path / "b" / "csv").mkdir(parents=True)
    text = "epoch,step,train/loss,val/loss\n0,1,0.9,\n0,2,0.8,\n0,1,,0.7\n"
    (tmp_path / "b" / "csv" / "metrics.csv").write_text(text, encoding="utf-8")
    assert read_curves(tmp_path / "b") == {
        "train/loss": [(1, 0.9), (2, 0.8)], "val/loss": [(2, 0.7)]
    }  # fmt: skip
    assert read_curves(tmp_path / "c") == {}


def test_long_names_go_into_a_legend_and_leave_the_axes_their_room() -> None:
    names = [
        f"data_variant=no_comments, cot_level={level}" for level in ("none", "simple", "complex")
    ]
    arms = tuple(ArmScore(name, 50.0 + i, (50.0 + i,)) for i, name in enumerate(names))
    table = ScoreTable(score_info("pass@1"), 10, 0, arms, ())
    costs = {name: Cost(100.0, 10.0 + i, 1e9 + i) for i, name in enumerate(names)}
    figure = draw_costs(table, costs, LIGHT)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    assert len(figure.axes) == 2  # all arms have the same number of parameters
    assert all(axes.get_position().width > 0.3 for axes in figure.axes)
    assert [text.get_text() for text in figure.axes[0].texts] == ["A", "B", "C"]


def test_curves_keep_their_room_beside_long_names() -> None:
    names = [f"data_variant=no_comments, cot_level={level}" for level in ("none", "simple")]
    figure = draw_curves({"train/loss": {name: [[(1, 2.0), (9, 1.0)]] for name in names}}, LIGHT)
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().width > 0.4
