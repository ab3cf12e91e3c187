"""The plot of the results: at most ten bars that begin at 1, with their absolute values beside them, as an SVG file
whose text is text. Dark bars are better than stock, white ones with a dark frame are worse: it needs no colours."""
import html
import math

from figure_text import number

TITLE = "Instructions for each request, NOTIFYs and their answers included: how many times fewer than stock's modules"
# What the bars show: experiment, row, label.
BARS = (
    ("memory: PUBLISH modify, nobody watches", "PUBLISH modify, nobody watches"),
    ("memory: PUBLISH modify, one watcher", "PUBLISH modify, one watcher"),
    ("memory: SUBSCRIBE initial", "SUBSCRIBE initial"),
    ("memory: SUBSCRIBE refresh", "SUBSCRIBE refresh"),
    ("memory: each NOTIFY of a fan-out to 50", "NOTIFY of a fan-out"),
    ("memory, dialog: PUBLISH modify, one watcher", "dialog: PUBLISH modify, one watcher"),
    ("memory, dialog: each NOTIFY of a fan-out to 50", "dialog: NOTIFY of a fan-out"),
    ("SQLite, defaults: PUBLISH modify, nobody watches", "SQLite: PUBLISH modify, nobody watches"),
    ("SQLite, defaults: SUBSCRIBE initial", "SQLite: SUBSCRIBE initial"),
    ("SQLite, defaults: SUBSCRIBE refresh", "SQLite: SUBSCRIBE refresh"),
)
EXPERIMENT = "instructions"
LEFT, TOP, ROW, BAR, WIDTH, BESIDE, BOTTOM = 310, 60, 26, 16, 380, 230, 40
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13"
role="img"><title>%s</title>
<style>text{fill:#111}.h{font-weight:bold;font-size:14px}.s{font-size:11px;fill:#444}.b{fill:#333;stroke:#333}
.w{fill:#fff;stroke:#333;stroke-width:1.5}path{stroke:#999;stroke-width:.7}.one{stroke:#111;stroke-width:1.5}</style>
"""


def bars_of(results):
    """Label, stock's value, ours, unit, and how many times better ours is; in the order of `BARS`."""
    rows = {row["what"]: row for row in results.get(EXPERIMENT, {}).get("rows", ())}
    found = []
    for what, label in BARS:
        row = rows.get(what)
        if row and row["stock"] and row["ours"]:
            times = row["ours"] / row["stock"] if row["better"] == "more" else row["stock"] / row["ours"]
            found.append((label, row["stock"], row["ours"], row["unit"], times))
    return found


def svg(results):
    """The plot, or nothing where the instructions were not counted."""
    bars = bars_of(results)
    if not bars:
        return ""
    # Where bars go to the left of 1, too, there is room for them.
    least = min(0.0, math.log2(min(bar[4] for bar in bars)))
    most = max(1.0, math.ceil(math.log2(max(bar[4] for bar in bars)) * 2) / 2)
    scale = WIDTH / (most - least)

    def at(times):
        return LEFT + (math.log2(times) - least) * scale

    bottom = TOP + ROW * len(bars)
    text = HEAD % (LEFT + WIDTH + BESIDE, bottom + BOTTOM, html.escape(TITLE))
    text += '<text class="h" x="10" y="24">%s</text>\n' % html.escape(TITLE)
    machine = results.get("machine", {})
    text += ('<text class="s" x="10" y="42">%s; %s; logarithmic, 1: the same as stock</text>\n'
             % (html.escape(machine.get("kamailio", "")), html.escape(results[EXPERIMENT].get("build", ""))))
    for power in range(math.ceil(least), math.floor(most) + 1):
        x = at(2 ** power)
        text += ('<path class="%s" d="M%.1f %dV%d"/><text class="s" x="%.1f" y="%d" text-anchor="middle">%g</text>\n'
                 % ("one" if power == 0 else "", x, TOP - 4, bottom, x, bottom + 16, 2 ** power))
    for place, (label, stock, ours, unit, times) in enumerate(bars):
        y = TOP + ROW * place
        left, right = sorted((at(1), at(times)))
        text += ('<text x="%d" y="%d" text-anchor="end">%s</text>' % (LEFT - 8, y + 13, html.escape(label)))
        text += ('<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>'
                 % ("b" if times >= 1 else "w", left, y, max(right - left, 0.5), BAR))
        text += ('<text class="s" x="%.1f" y="%d">%.1f (%s to %s %s)</text>\n'
                 % (right + 5, y + 12, times, number(stock), number(ours), html.escape(unit)))
    return text + "</svg>\n"
