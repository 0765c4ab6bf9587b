"""The pictures of ``icot.probe``.

A probe's colour goes from 0, no better than the control task and the token itself, to 1, always
right. What was never read (no such place, or too few questions have it) stays white.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from icot.probing.attention import Attention
from icot.probing.reading import Reading
from icot.probing.replacing import Following
from icot.reporting.theme import LIGHT, new_figure, save, style_axes

ROW, COLUMN, LABELS = 0.17, 0.24, 2.6  # inches
SCALE = "what the probe adds: 0 nothing, 1 always right"
MOST_PANELS = 64  # of attention; with more heads, each layer's mean is shown


def best_places(reading: Reading, labels: Sequence[str], path: Path, title: str) -> None:
    """Thing by layer, each at its best place, and thing by place, each at its best layer.

    Args:
        reading: of a model.
        labels: [P] of the places.
        path: the file to write.
        title: above both panels.
    """
    chosen, shown = reading.gain(0), reading.gain(1)
    layers, places, k = shown.shape
    by_layer, by_place = np.full((k, layers), np.nan), np.full((k, places), np.nan)
    for thing in range(k):
        found = reading.best(thing)
        if found is not None:
            layer, _ = found
            before = chosen[:, : reading.before[thing], thing]
            of_layer = np.nan_to_num(before, nan=-1).argmax(1)
            by_layer[thing] = shown[np.arange(layers), of_layer, thing]
            by_place[thing] = shown[layer, :, thing]
    width = LABELS + COLUMN * (places + layers) + 1.6
    figure = new_figure(LIGHT, width=max(7, width), height=1.5 + ROW * k)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(layers, places))
    _heat(left, by_layer, [str(layer) for layer in reading.layers], reading.targets)
    left.set_xlabel("layer")
    left.set_title("at the best position", fontsize=9)
    image = _heat(right, by_place, labels, reading.targets)
    right.set_xlabel("position")
    right.set_title("at the best layer", fontsize=9)
    right.tick_params(labelleft=False)
    _finish(figure, image, right, path, title)


def stages(
    records: Sequence[Mapping[str, Any]], targets: Sequence[str], path: Path, title: str
) -> None:
    """Thing by model: how well each is read at its best place, and which place that is.

    Args:
        records: of the models, from probe.json.
        targets: the rows.
        path: the file to write.
        title: above the picture.
    """
    values = np.full((len(targets), len(records)), np.nan)
    texts: dict[tuple[int, int], str] = {}
    for column, record in enumerate(records):
        best = {one["target"]: one for one in record["best"]}
        for row, target in enumerate(targets):
            one = best.get(target)
            if one is not None and one["layer"] is not None:
                values[row, column] = one["gain"]
                texts[row, column] = f"{one['layer']} {one['position']}"
    figure = new_figure(
        LIGHT, width=LABELS + 1.25 * len(records) + 1, height=2.2 + ROW * len(targets)
    )
    axes = figure.add_subplot()
    image = _heat(axes, values, [_wrap(record["title"]) for record in records], targets)
    axes.tick_params(axis="x", rotation=0)
    for (row, column), text in texts.items():
        colour = "black" if values[row, column] > 0.55 else "white"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    axes.set_xlabel("in each field: the layer and position where it is read best")
    _finish(figure, image, axes, path, title)


def following(found: Sequence[Following], path: Path, title: str) -> None:
    """Replaced place by written token: the share that follows the other question, and that changes.

    A token that changes and does not follow is a third one.
    """
    names = list(dict.fromkeys(name for one in found for name in one.names))
    names.sort(key=lambda name: ("xzy".find(name[0]), int(name[1:]) if name[1:].isdigit() else 0))
    follow, change = np.full((2, len(found), len(names)), np.nan)
    for row, one in enumerate(found):
        counts = zip(one.names, one.pairs, one.follows, one.stays, strict=True)
        for name, pairs, follows, stays in counts:
            follow[row, names.index(name)] = follows / pairs
            change[row, names.index(name)] = 1 - stays / pairs
    width = max(7, LABELS + 2 * COLUMN * len(names) + 1)
    figure = new_figure(LIGHT, width=width, height=1.8 + ROW * len(found))
    both = figure.subplots(1, 2, sharey=True)
    rows = [f"layer {one.layer}, {one.position}" for one in found]
    for axes, values, name in zip(
        both,
        (follow, change),
        ("follows the other question", "changes"),
        strict=True,
    ):
        image = _heat(axes, values, names, rows)
        axes.set_xlabel("written token")
        axes.set_title(name, fontsize=9)
    both[0].set_ylabel("replaced state")
    both[1].tick_params(labelleft=False)
    _finish(figure, image, both[1], path, title, "share of pairs")


def attention(found: Attention, labels: Sequence[str], path: Path, title: str) -> None:
    """A panel for each layer and head, from a token (row) to those before it (column)."""
    weights = found.weights
    if weights.shape[0] * weights.shape[1] > MOST_PANELS:
        weights = weights.mean(1, keepdims=True)
    layers, heads, n, _ = weights.shape
    side = max(1.3, 0.075 * n)
    figure = new_figure(LIGHT, width=side * heads + 1, height=side * layers + 0.8)
    for layer, row in enumerate(figure.subplots(layers, heads, squeeze=False)):
        for head, axes in enumerate(row):
            image = axes.imshow(weights[layer, head], cmap=LIGHT.heat, vmin=0, vmax=1)
            axes.set_xticks(range(n), labels if layer == layers - 1 else [""] * n)
            axes.set_yticks(range(n), labels if head == 0 else [""] * n)
            axes.tick_params(labelsize=4, length=0, pad=1)
            axes.tick_params(axis="x", rotation=90)
            name = f"layer {layer + 1}" + (f", head {head + 1}" if heads > 1 else ", mean of heads")
            axes.set_title(name, fontsize=6, pad=2)
    figure.colorbar(image, ax=figure.axes, shrink=0.4, label="attention")
    figure.suptitle(title, fontsize=9)
    save(figure, path)


def _heat(
    axes: Axes, values: NDArray[np.float64], columns: Sequence[str], rows: Sequence[str]
) -> Any:
    image = axes.imshow(values, cmap=LIGHT.heat, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    style_axes(axes, LIGHT)
    axes.grid(visible=False)
    axes.tick_params(labelsize=7, length=0)
    axes.tick_params(axis="x", rotation=90)
    return image


def _finish(
    figure: Figure, image: Any, axes: Axes, path: Path, title: str, scale: str = SCALE
) -> None:
    figure.colorbar(image, ax=axes, label=scale, shrink=min(1.0, 3 / figure.get_figheight()))
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def _wrap(title: str) -> str:
    return title.replace(", ", ",\n").replace(" tokens", "\ntokens")
