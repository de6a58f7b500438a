"""The plots of docs/benchmarks.md, from JSON on stdin: `python plots.py FOLDER`. Runs in an environment of its own."""

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "argosy", "svg.fonttype": "none", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

OURS, OTHERS = "#1f6feb", "#8c959f"
COLOURS = {"Argosy, one replica": OURS, "Argosy behind its gateway": "#0a3069"}
MARKS = "osv^D<>Pxh*"


def cpu(found: dict[str, dict[str, float | None]], titles: dict[str, str], path: Path) -> None:
    """One panel a case: bars of CPU per request over the floor, on a scale of powers."""
    cases = [name for name, values in found.items() if any(values.values())]
    if not cases:
        return
    servers = [name for name in reversed(found[cases[0]]) if any(found[case][name] for case in cases)]
    size = (2.5 + 2.6 * len(cases), 0.6 + 0.3 * len(servers))
    figure, panels = plt.subplots(1, len(cases), figsize=size, squeeze=False, sharey=True)
    for panel, case in zip(panels[0], cases, strict=True):
        colours = [OURS if name.startswith("Argosy") else OTHERS for name in servers]
        values = [found[case][name] or float("nan") for name in servers]
        bars = panel.barh(servers, values, color=colours)
        panel.bar_label(bars, [f"{value:.1f}" if value == value else "-" for value in values], padding=2)
        panel.set_xscale("log")
        panel.axvline(1, color="black", linewidth=0.8)
        panel.margins(x=0.3)
        panel.set_title("\n".join(textwrap.wrap(titles[case], 30)), fontsize=9)
    figure.supxlabel("CPU per request over the floor's, 16 connections", fontsize=9)
    save(figure, path)


def goodput(found: dict[str, dict[str, list[float | None]]], titles: dict[str, str], path: Path) -> None:
    cases = [name for name, values in found.items() if any(value for each in values.values() for value in each)]
    if not cases:
        return
    figure, panels = plt.subplots(1, len(cases), figsize=(4.6 * len(cases), 4), squeeze=False)
    for panel, case in zip(panels[0], cases, strict=True):
        for mark, (name, values) in zip(MARKS * 2, found[case].items(), strict=False):
            points = [(x, y) for x, y in zip((0.5, 1, 3), values, strict=True) if y is not None]
            if points:
                ours = name.startswith("Argosy")
                panel.plot(*zip(*points, strict=True), marker=mark, label=name, linewidth=2 if ours else 1,
                           color=COLOURS.get(name))  # fmt: skip
        panel.set_title(titles[case], fontsize=9)
        panel.set_xlabel("offered load / capacity")
        panel.set_ylim(bottom=0)
    panels[0][0].set_ylabel("good answers within 1 s / capacity")
    panels[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    data = json.load(sys.stdin)
    cpu(data["cpu"], data["titles"], Path(sys.argv[1]) / "cpu.svg")
    goodput(data["goodput"], data["titles"], Path(sys.argv[1]) / "goodput.svg")
