"""Places for names beside points and lines, where they do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[float, float, float, float]
"""Left, lower, right and upper end."""

_DIRECTIONS = ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0.3, 1), (0.3, -1),
               (-0.3, 1), (-0.3, -1))  # fmt: skip
_DISTANCES = (1.0, 1.8, 2.6, 3.6, 4.8)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    *,
    gap: float,
    lines: Sequence[Sequence[tuple[float, float]]] = (),
) -> list[tuple[float, float]]:
    """Return where to write a name beside each point, as an offset; all in pixels.

    A name begins at its offset where that goes to the right, and ends there where it goes to the
    left. Names are placed one after another, each where it covers least.

    Args:
        points: Places of the points.
        sizes: Width and height of each name.
        frame: Names should stay inside.
        gap: Least distance of a name from its point.
        lines: Corners of lines that names should not cover.
    """
    crossed = [spot for line in lines for spot in _dots(line, gap / 2)]
    taken = [(x - gap * 0.6, y - gap * 0.6, x + gap * 0.6, y + gap * 0.6) for x, y in points]
    offsets: list[tuple[float, float]] = []
    for index, ((x, y), size) in enumerate(zip(points, sizes, strict=True)):
        others = taken[:index] + taken[index + 1 :]
        best, best_cost = (gap, 0.0), float("inf")
        for distance in _DISTANCES:
            for right, up in _DIRECTIONS:
                offset = (right * gap * distance, up * gap * distance)
                box = _label_box(x, y, offset, size)
                cost = sum(_overlap(box, other) for other in others) + _outside(box, frame)
                cost += _misleads(box, index, points) * gap * size[1]
                cost += 4 * sum(_is_inside(spot, box) for spot in crossed) * gap
                cost += 0.15 * size[1] * gap * (distance - 1)  # near is better than far
                if cost < best_cost - 1e-9:
                    best, best_cost = offset, cost
        offsets.append(best)
        taken.append(_label_box(x, y, best, size))
    return offsets


def _misleads(box: Box, own: int, points: Sequence[tuple[float, float]]) -> float:
    """Return 1 where a name stands nearer to another point than to its own, 0.5 where nearly so."""
    here = _distance(box, points[own])
    others = [_distance(box, point) for point in points if point != points[own]]
    nearest = min(others, default=float("inf"))
    return 1.0 if nearest <= here else 0.5 * (nearest < 1.5 * here)


def _distance(box: Box, point: tuple[float, float]) -> float:
    x = max(box[0] - point[0], 0.0, point[0] - box[2])
    y = max(box[1] - point[1], 0.0, point[1] - box[3])
    return float((x * x + y * y) ** 0.5)


def _dots(line: Sequence[tuple[float, float]], step: float) -> list[tuple[float, float]]:
    dots = []
    for (x0, y0), (x1, y1) in zip(line, line[1:], strict=False):
        count = max(1, round(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 / step))
        dots += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(count)]
    return dots


def _is_inside(spot: tuple[float, float], box: Box) -> bool:
    return box[0] <= spot[0] <= box[2] and box[1] <= spot[1] <= box[3]


def _label_box(x: float, y: float, offset: tuple[float, float], size: tuple[float, float]) -> Box:
    left = x + offset[0] - (size[0] if offset[0] < 0 else 0)
    middle = y + offset[1]
    return left, middle - size[1] / 2, left + size[0], middle + size[1] / 2


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _outside(box: Box, frame: Box) -> float:
    area = (box[2] - box[0]) * (box[3] - box[1])
    return 3 * (area - _overlap(box, frame))


def spread_labels(heights: Sequence[float], least: float) -> list[float]:
    """Return heights for labels, moved as little as needed to lie ``least`` apart."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [heights[index] for index in order]
    for _ in range(200):
        moved = False
        for i in range(len(placed) - 1):
            overlap = least - (placed[i + 1] - placed[i])
            if overlap > 1e-9 * max(abs(least), 1e-12):
                placed[i] -= overlap / 2
                placed[i + 1] += overlap / 2
                moved = True
        if not moved:
            break
    result = [0.0] * len(heights)
    for index, height in zip(order, placed, strict=True):
        result[index] = height
    return result
