"""What networks cost: operations, events and storage."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsnnq.report.groups import Group, dig
from jsnnq.report.numbers import amount, kib
from jsnnq.report.plots import style
from jsnnq.report.results import Results


def costed(study: Results) -> list[Group]:
    """Networks whose cost is known; what costs the same in all methods, once.

    Whether weights and activations are binary decides what a binary network costs,
    and not how it was trained.
    """
    paid = lambda g: g.values("cost.acs") and g.mean("cost.weight_bits")
    known = [group for group in study.groups if paid(group)]
    if not study.is_binary:
        return known
    price = lambda g: (g.network, g.place, g.mean("cost.weight_bits"))
    return list({price(group): group for group in reversed(known)}.values())[::-1]


def draw_cost(study: Results, groups: Sequence[Group]) -> Figure:
    """Operations, events and storage, one bar for each network that is `costed`."""
    policy = dig(groups[0].rows[0], "cost.policy")
    operations = {"acs": "accumulates", "macs": "multiply-accumulates"}
    storage = {"weight_bits": "weights", "state_bits": "membrane state"}
    wanted = []
    for title, parts, show in (
        (f"operations per image ({policy})", operations, amount),
        ("events per image", {"events": "events"}, amount),
        ("storage, KiB", storage, kib),
    ):
        # Nothing fires in a binary network, and nothing has a state.
        costs = [p for p in parts if any(group.mean(f"cost.{p}") for group in groups)]
        if costs:
            wanted.append((title, {part: parts[part] for part in costs}, show))
    figure = style.figure(8.5, 1.2 + 0.23 * len(groups))
    panels = figure.subplots(1, len(wanted), sharey=True, squeeze=False)[0]
    for axes, (title, parts, show) in zip(panels, wanted, strict=True):
        _draw_bars(axes, groups, parts, show)
        axes.set_title(style.plain(title), fontsize=8.5, loc="left", y=1.0)
    # A binary row stands for all methods, so the name of one would mislead.
    priced = lambda g: g.name if g.is_spiking else f"{g.place or 'float'}, {g.network}"
    panels[0].set_yticks(range(len(groups)), [style.plain(priced(g)) for g in groups])
    panels[0].set_ylim(len(groups) - 0.4, -0.6)
    return figure


def _draw_bars(
    axes: Axes,
    groups: Sequence[Group],
    parts: Mapping[str, str],
    show: Callable[[float], str],
) -> None:
    """One bar per network, the parts of its cost one behind the other."""
    end = np.zeros(len(groups))
    for (part, words), colour in zip(parts.items(), style.BARS, strict=False):
        size = np.array([group.mean(f"cost.{part}") or 0.0 for group in groups])
        axes.barh(range(len(groups)), size, 0.72, end, color=colour, label=words)
        end += size
    for line, total in enumerate(end):
        axes.text(total, line, f" {show(total)}", va="center", fontsize=7)
    axes.set_xlim(0, 1.3 * max(end.max(), 1e-9))  # with room for the number
    axes.set_xticks([])
    axes.tick_params(labelsize=8, length=0)
    axes.spines["bottom"].set_visible(False)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "fontsize": 7.5}
    axes.legend(ncols=2, columnspacing=1.0, handlelength=1.2, **place)
