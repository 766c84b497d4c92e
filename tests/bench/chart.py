"""A bar for each of some figures, as SVG: the median, a line from the lowest to the highest run, and the aim."""

from collections.abc import Mapping
from html import escape

from tests.bench.report import Figure, written

_WIDTH, _LABELS, _NUMBERS, _ROW, _TOP = 860, 340, 70, 26, 40
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}"
    ".bar{fill:#4c78a8}.missed{fill:#e45756}.run{stroke:#24292f;stroke-width:1.5}.aim{stroke:#f58518;stroke-width:2;"
    "stroke-dasharray:4 2}@media(prefers-color-scheme:dark){text{fill:#d0d7de}.run{stroke:#d0d7de}}"
)


def svg(title: str, bars: Mapping[str, Figure]) -> str:
    """`bars`: label to figure, from top to bottom; all in one unit."""
    most = max(max(max(figure.values), figure.at_least or 0, figure.at_most or 0) for figure in bars.values()) or 1
    scale = (_WIDTH - _LABELS - _NUMBERS) / most
    height = _TOP + _ROW * len(bars) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text class="title" x="8" y="20">{escape(title)}</text>',
    ]
    for place, (label, figure) in enumerate(bars.items()):
        parts += _bar(_TOP + place * _ROW, scale, label, figure)
    return "\n".join([*parts, "</svg>\n"])


def _bar(top: int, scale: float, label: str, figure: Figure) -> list[str]:
    middle, kind = top + 10, "bar" if figure.met else "bar missed"
    low, end, high = (_LABELS + scale * value for value in (min(figure.values), figure.median, max(figure.values)))
    aims = [_LABELS + scale * aim for aim in (figure.at_least, figure.at_most) if aim is not None]
    return [
        f'<text x="{_LABELS - 8}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{end - _LABELS:.1f}" height="20" rx="2"/>',
        f'<line class="run" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
        *(f'<line class="aim" x1="{aim:.1f}" y1="{top - 2}" x2="{aim:.1f}" y2="{top + 22}"/>' for aim in aims),
        f'<text x="{max(high, *aims, end) + 6:.1f}" y="{middle + 4}">{written(figure.median)}</text>',
    ]
