"""The results as bars on a log scale: SVG that reads well in light and dark."""

import html
import math
import re

from .page import Figures, number

WIDTH, LEFT, RIGHT, ROW, BAR = 860, 330, 70, 22, 14
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 14px } .axis { font-size: 11px; fill: #656d76 }
line { stroke: #d0d7de } .ours { fill: #0969da } .peer { fill: #8c959f } .wrong { fill: #8c959f; fill-opacity: .35; stroke: #8c959f; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .axis { fill: #9198a1 } line { stroke: #3d444d } .ours { fill: #4493f8 } .peer { fill: #656c76 }
.wrong { fill: #656c76; stroke: #9198a1 } }
"""
PANELS = {
    "tokenize documents": "Text to ids: documents",
    "tokenize sentences": "Text to ids: sentences",
    "sentences": "Text to sentences",
    "prepare": "Text to rows",
}


def draw(results):
    figures = Figures(results)
    panels = [(title, kind, [key for key in figures.of(kind) if "cloze zstd" not in key]) for kind, title in PANELS.items()]
    panels = [panel for panel in panels if panel[2]]
    medians = [figures.median(key) for _, _, keys in panels for key in keys]
    low, high = math.floor(math.log10(min(medians))), math.ceil(math.log10(max(medians)))
    high = max(high, low + 1)

    def x(value):
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts, y = [], 34
    for title, kind, keys in panels:
        y += 14
        parts.append(f'<text class="title" x="12" y="{y}">{title}</text>')
        y += 10
        top = y
        bars = []
        for key in keys:
            way, rate = figures.ways[key], figures.median(key)
            wrong = kind.startswith("tokenize") and figures.exact(f"tokenize documents: {way['name']}") is False
            style = "ours" if way["ours"] else "wrong" if wrong else "peer"
            name = html.escape(plain(way["shown"]) + (" (ids differ)" if wrong else ""))
            middle = y + ROW / 2
            bars.append(f'<text x="{LEFT - 8}" y="{middle + 4:.0f}" text-anchor="end">{name}</text>')
            bars.append(f'<rect class="{style}" x="{LEFT}" y="{middle - BAR / 2:.1f}" width="{max(x(rate) - LEFT, 1):.1f}" height="{BAR}" rx="2"/>')
            bars.append(f'<text x="{max(x(rate), LEFT) + 6:.1f}" y="{middle + 4:.0f}">{number(rate)}</text>')
            y += ROW
        grid = [f'<line x1="{x(10.0**power):.1f}" x2="{x(10.0**power):.1f}" y1="{top}" y2="{y}"/>' for power in range(low, high + 1)]
        parts += grid + bars
        y += 12
    ticks = [f'<text class="axis" x="{x(10.0**power):.1f}" y="{y}" text-anchor="middle">{10.0**power:,g}</text>' for power in range(low, high + 1)]
    machine = results["machine"]
    head = f"Megabytes of text a second, log scale. {machine['processor']}, {results['date']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 12}" width="{WIDTH}" role="img" aria-label="Megabytes of text a second">'
        f"<style>{STYLE}</style>"
        f'<text class="axis" x="12" y="22">{html.escape(head)}</text>' + "\n".join([*parts, *ticks]) + "</svg>\n"
    )


def plain(text):
    """Without the marks of Markdown."""
    text = re.sub(r"[*`]", "", text)
    short = {"datasets.map, as run_mlm.py does (no sentences, no pairs)": "datasets.map as run_mlm.py (no pairs)"}
    short["best parts of Python: blingfire, nanotoken, numpy, pyarrow"] = "best parts of Python, one duplicate"
    short["the same, two duplicates"] = "best parts of Python, two duplicates"
    short["tokenizers, the crate's release candidate, encode_into"] = "tokenizers, crate, release candidate"
    return short.get(text, text)
