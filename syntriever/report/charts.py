"""Charts as inline SVG. Colours come from the page's style, so that they follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from syntriever.report.curves import Points

WIDTH, HEIGHT = 400, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 92, 12, 30
_MARKS = {  # a shape each, since colour alone is not for everybody
    "bm25": "M-4-4H4V4H-4Z",
    "untrained": "M0-5L5 4H-5Z",
    "stage1": "M0-5L5 0 0 5-5 0Z",
    "stage2": "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z",
}


@dataclass(frozen=True)
class Line:
    """One line of a chart; `style` is the class that colours it."""

    style: str
    label: str
    points: Points


def lines(title: str, data: Sequence[Line], logarithmic: bool = False) -> str:
    """Draw lines over a common axis, each named at its end.

    Args:
        title: what a screen reader says of the chart.
        data: at least one line with a point.
        logarithmic: the x axis grows by factors, with a tick at each x of the first line.
    """
    xs = [x for line in data for x, _ in line.points]
    ys = [y for line in data for _, y in line.points]
    across = _scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT, math.log10 if logarithmic else float)
    ticks = _ticks(min(0.0, *ys), max(ys))
    down = _scale(ticks[0], ticks[-1], HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{down(t)}" y2="{down(t)}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{down(t)}" dy=".35em" text-anchor="end">{t:g}'
        "</text>"
        for t in ticks
    ]
    marked = [x for x, _ in data[0].points] if logarithmic else sorted({min(xs), max(xs)})
    parts += [
        f'<text class="tick" x="{across(x)}" y="{HEIGHT - 8}" text-anchor="middle">{x:g}</text>'
        for x in marked
    ]
    for line in data:
        places = [(across(x), down(y)) for x, y in line.points]
        path = "L".join(f"{x} {y}" for x, y in places)
        marks = (
            "".join(
                f'<path d="{_MARKS[line.style]}" transform="translate({x} {y})"/>'
                for x, y in places
            )
            if len(places) <= 12 and line.style in _MARKS
            else ""
        )
        parts.append(
            f'<g class="series s-{line.style}"><path class="line" d="M{path}"/>'
            f'<g class="marks">{marks}</g></g>'
        )
    parts += _end_labels(data, down)
    return _svg(title, HEIGHT, parts)


def _end_labels(data: Sequence[Line], down) -> list[str]:
    """Name the lines at their ends, from top to bottom, so far apart that they can be read."""
    ends = sorted((down(line.points[-1][1]), line.style, line.label) for line in data)
    places = [y for y, _, _ in ends]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + 15)
    floor = HEIGHT - _BOTTOM + 15
    for i in reversed(range(len(places))):  # none below the axis
        floor = places[i] = min(places[i], floor - 15)
    return [
        f'<text class="label s-{style}" x="{WIDTH - _RIGHT + 9}" y="{_rounded(y)}" dy=".35em">'
        f"{escape(label)}</text>"
        for y, (_, style, label) in zip(places, ends, strict=True)
    ]


def intervals(title: str, rows: Sequence[tuple[str, str, float, float, float]]) -> str:
    """Draw means with their intervals, one below the other.

    Args:
        rows: (style, label, mean, low, high), values from 0.
    """
    ticks = _ticks(0.0, max(high for *_, high in rows))
    across = _scale(0, ticks[-1], 84, WIDTH - 50)
    height = 34 * len(rows) + 30
    parts = [
        f'<line class="grid" x1="{across(t)}" x2="{across(t)}" y1="6" y2="{height - 24}"/>'
        f'<text class="tick" x="{across(t)}" y="{height - 8}" text-anchor="middle">{t:g}</text>'
        for t in ticks
    ]
    for i, (style, label, mean, low, high) in enumerate(rows):
        y = 34 * i + 22
        parts.append(
            f'<g class="s-{style}"><text class="label" x="0" y="{y}" dy=".35em">{escape(label)}'
            f'</text><line class="span" x1="{across(low)}" x2="{across(high)}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot" cx="{across(mean)}" cy="{y}" r="6"/>'
            f'<text class="label" x="{WIDTH}" y="{y}" dy=".35em" text-anchor="end">{mean:.3f}'
            "</text></g>"
        )
    return _svg(title, height, parts)


def changes(title: str, values: Sequence[float]) -> str:
    """Draw each query's change as a bar, from the biggest loss to the biggest win.

    Args:
        values: rising, from -1 to 1; more than 300 are drawn as their neighbours' mean.
    """
    size = max(1, -(-len(values) // 300))
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    means = [sum(group) / len(group) for group in groups]
    width = (WIDTH - 34) / len(means)
    parts = [
        f'<line class="grid" x1="30" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
        f'<text class="tick" x="24" y="{y}" dy=".35em" text-anchor="end">{text}</text>'
        for y, text in ((10, "+1"), (70, "0"), (130, "−1"))
    ]
    for i, mean in enumerate(means):
        if mean:
            tall = _rounded(max(1, abs(mean) * 60))
            parts.append(
                f'<rect class="{"win" if mean > 0 else "loss"}" x="{_rounded(32 + i * width)}" '
                f'y="{_rounded(70 - tall) if mean > 0 else 70}" '
                f'width="{_rounded(max(0.8, width * 0.8))}" height="{tall}"/>'
            )
    return _svg(title, 140, parts)


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    name = escape(title)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">'
        f"{''.join(parts)}</svg>"
    )


def _scale(low: float, high: float, start: float, end: float, of=float):
    """Map low to start and high to end."""
    first, span = of(low), (of(high) - of(low)) or 1
    return lambda value: _rounded(start + (of(value) - first) / span * (end - start))


def _rounded(value: float) -> float:
    return round(value, 1)


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round values that enclose low and high."""
    span = (high - low) or 1
    rough = span / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
