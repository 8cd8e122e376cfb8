"""Draws the load runs as SVG, without any library: viewers against CPU, viewers against delay."""

import json
import math
import os
import re

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
INK, GRID = "#57606a", "#d0d7de"
# Told apart by colour-blind people too (Okabe and Ito), and in black and white by their marks.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]


def draw(figures, target, page):
    """Writes the plots of the JSON in `figures` into `target`; gives lines of Markdown."""
    runs = read(figures)
    if not runs:
        return ["(no load runs to plot)", ""]
    target.mkdir(parents=True, exist_ok=True)
    by_cores = {}
    for run in runs:
        by_cores.setdefault(run["server_cores"], []).append(run)
    lines = []
    cpu = {
        f"{cores} core{'s' if cores > 1 else ''}": [(r["viewers"], r["server_cpu_percent"]) for r in some]
        for cores, some in by_cores.items()
    }
    lines.append(write(target / "viewers-cpu.svg", "CPU of the whole server, % of one core", cpu, False, page))
    for cores, some in by_cores.items():
        delay = {
            label: [(r["viewers"], r["delay_ms"][key]) for r in some]
            for label, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))
        }
        title = f"Added delay in ms, {cores} core{'s' if cores > 1 else ''} (logarithmic)"
        lines.append(write(target / f"viewers-delay-{cores}.svg", title, delay, True, page))
    return [line for line in lines if line] + [""]


def read(figures):
    """Plain runs of one room, in the order of their viewers."""
    runs = []
    for path in figures.glob("load-*.json"):
        if re.fullmatch(r"load-\d+-1-\d+\.json", path.name):
            runs.append(json.loads(path.read_text()))
    return sorted(runs, key=lambda run: run["viewers"])


def write(path, title, series, logarithmic, page):
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return ""
    path.write_text(svg(title, series, logarithmic))
    shown = os.path.relpath(path, page.parent) if page else path.name
    return f"![{title}, by viewers]({shown})"


def svg(title, series, logarithmic):
    values = [value for points in series.values() for _, value in points]
    most = max(x for points in series.values() for x, _ in points)
    ticks = logarithmic_ticks(values) if logarithmic else even_ticks(max(values))
    low, high = ticks[0], ticks[-1]

    def place_x(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * x / most

    def place_y(y):
        if logarithmic:
            share = math.log(max(y, low) / low) / math.log(high / low)
        else:
            share = (y - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f"<title>{title}, by viewers</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" fill="{INK}" font-size="15">{title}</text>',
    ]
    for tick in ticks:
        y = place_y(tick)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="{GRID}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" fill="{INK}" text-anchor="end">{tick:g}</text>')
    for tick in even_ticks(most):
        if tick <= most:
            x = place_x(tick)
            out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" fill="{INK}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 10}" fill="{INK}" text-anchor="middle">viewers</text>')
    label_y = []
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [mark(number, place_x(x), place_y(y), colour) for x, y in points]
        x, y = place_x(points[-1][0]), place_y(points[-1][1])
        while any(abs(y - other) < 15 for other in label_y):
            y -= 3
        label_y.append(y)
        out.append(f'<text x="{x + 12:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}: {points[-1][1]:.3g}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def mark(number, x, y, colour):
    if number % 3 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    if number % 3 == 1:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>'
    corners = f"{x:.1f},{y - 5:.1f} {x + 5:.1f},{y + 4:.1f} {x - 5:.1f},{y + 4:.1f}"
    return f'<polygon points="{corners}" fill="{colour}"/>'


def even_ticks(most):
    """From 0 in four to eight even steps to at least `most`."""
    step = 10 ** math.floor(math.log10(max(most, 1e-9)))
    for factor in (0.2, 0.25, 0.5, 1, 2):
        if most / (step * factor) <= 8:
            step *= factor
            break
    return [step * number for number in range(math.ceil(most / step) + 1)]


def logarithmic_ticks(values):
    """1, 2, 5, 10 … around the values."""
    positive = [value for value in values if value > 0] or [1]
    low, high = min(positive), max(positive)
    ticks = [digit * 10**power for power in range(-3, 6) for digit in (1, 2, 5)]
    first = max([tick for tick in ticks if tick <= low], default=ticks[0])
    last = min([tick for tick in ticks if tick >= high and tick > first], default=ticks[-1])
    return [tick for tick in ticks if first <= tick <= last]
