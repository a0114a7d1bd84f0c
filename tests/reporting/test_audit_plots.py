"""Bars are in proportion, and every text lies within its picture."""

from __future__ import annotations

import re

import pytest

from ift_lightning.reporting.audit_plots import (
    WIDTH,
    bars,
    histogram,
    nice_step,
    shortened,
    text_width,
)


def reach(svg: str) -> list[tuple[float, float]]:
    """Return where each text begins and ends, in pixels from the left."""
    found = re.findall(r'<text x="([-\d.]+)" y="[\d.]+" text-anchor="(\w+)">([^<]*)<', svg)
    assert len(found) == svg.count("<text")
    ends = []
    for x, anchor, text in found:
        before = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * text_width(text)
        ends.append((float(x) - before, float(x) - before + text_width(text)))
    return ends


@pytest.mark.parametrize("limit", [None, 1, 512, 1_000_000])
@pytest.mark.parametrize("top", [1, 9, 40, 520, 1000, 131_072, 1_000_000])
@pytest.mark.parametrize("highest", [1, 16_377, 123_456_789])
def test_no_text_of_a_histogram_is_cut_off(top: int, limit: int | None, highest: int) -> None:
    top = max(top, limit or 0)
    svg = histogram({"edges": [0, top], "counts": [highest]}, limit)
    assert all(start >= 0 and end <= WIDTH + 0.1 for start, end in reach(svg)), svg


def test_no_text_of_bars_is_cut_off() -> None:
    svg = bars({"x" * 90: 123_456_789, "判断" * 40: 7, "short": 1})
    assert all(start >= 0 and end <= WIDTH for start, end in reach(svg.replace("</title>", "")))
    assert "…<title>" + "判断" * 40 in svg and ">short<" in svg


def test_steps_of_an_axis_are_round() -> None:
    assert [nice_step(top) for top in (1, 8, 9, 40, 41, 520, 131_072)] == [
        1,
        1,
        2,
        5,
        10,
        100,
        20_000,
    ]
    svg = histogram({"edges": [0, 260, 520], "counts": [3, 1]}, 512)
    assert re.findall(r'"middle">([\d,]+)<', svg) == ["0", "100", "200", "300", "400", "500"]


def test_a_long_name_is_cut_visibly() -> None:
    assert shortened("abc", 100) == "abc"
    assert shortened("判断判断", 40) == "判断…"


def test_histogram_bars_are_in_proportion() -> None:
    svg = histogram({"edges": [0, 5, 10], "counts": [4, 1]}, 5)
    assert 'height="180.0"' in svg and 'height="45.0"' in svg
    assert "limit 5" in svg and "5 to 9: 1 rows" in svg


def test_bars() -> None:
    svg = bars({"a": 4, "b": 1, "c": 1}, most=2)
    assert 'width="560.0"' in svg and 'width="140.0"' in svg and "and 1 more" in svg
