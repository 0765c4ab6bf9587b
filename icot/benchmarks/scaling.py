"""How the cost of an update grows with digits, tokens removed, batch size and width.

Also writes ``scaling.png``: seconds and arithmetic for 1,000 examples, both relative to the first
point of a curve, which shows where time grows faster than the arithmetic.
"""

from pathlib import Path
from statistics import median
from typing import Any

from lightning import seed_everything

from icot.benchmarks.step import WARM_UP, UpdateTimer, make_module, prepare_data, train
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.config.identity import put
from icot.config.task_options import MultiplicationConfig
from icot.errors import ConfigError
from icot.reporting.theme import LIGHT, legend, new_figure, save, style_axes

AXES: dict[str, tuple[str | None, tuple[int, ...]]] = {
    "digits": ("task.digits", (2, 3, 4, 6, 8, 10, 12)),
    "batch size": ("data.batch_size", (8, 32, 128, 512)),
    "width": ("model.config.n_embd", (64, 128, 256, 512)),
    "tokens removed": (None, ()),
}
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the chain, for the last axis


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Seconds and FLOPs for 1,000 examples along each axis; all else is as composed."""
    if not isinstance(cfg.task, MultiplicationConfig):
        raise ConfigError(["what=scaling needs a task of multiplication"])
    curves: dict[str, list[dict[str, float]]] = {}
    for axis, (key, values) in AXES.items():
        curves[axis] = []
        for value in values:
            values_of_point = cfg.as_dict()
            put(values_of_point, str(key), value)
            if axis == "digits":  # a recipe's attention is the fastest only at its lengths
                put(values_of_point, "model.attn_implementation", None)
            varied = BenchmarkConfig.model_validate(values_of_point)
            curves[axis].append({"value": value, **_cost(varied, 0.0)})
        for share in () if values else SHARES:
            cost = _cost(cfg, share)
            curves[axis].append({"value": cost["tokens_removed"], **cost})
    path = Path(cfg.out or ".") / "scaling.png"
    draw(curves, path)
    growth = {axis: _growth(points) for axis, points in curves.items()}
    return {
        "task": cfg.task.target,
        "curves": curves,
        "picture": str(path),
        "ratios": {f"time over arithmetic, {axis}": value for axis, value in growth.items()},
    }


def _growth(points: list[dict[str, float]]) -> float:
    """Growth in time over growth in arithmetic, from the least to the most arithmetic."""
    least = min(points, key=lambda point: point["flops"])
    most = max(points, key=lambda point: point["flops"])
    return (most["seconds"] / least["seconds"]) / (most["flops"] / least["flops"])


def _cost(cfg: BenchmarkConfig, share: float) -> dict[str, float]:
    """The cost of 1,000 examples with a share of the chain removed."""
    seed_everything(cfg.seed, verbose=False)
    data = prepare_data(cfg)
    removed = round(share * data.longest_cot)
    module = make_module(cfg, data)
    clock = UpdateTimer()
    train(cfg, module, data, removed, cfg.repeats + WARM_UP, clock)
    rows, columns = clock.shape
    weights = sum(p.numel() for p in module.model.parameters() if p.dim() == 2)
    width, layers = cfg.model.config["n_embd"], cfg.model.config["n_layer"]
    # Attention: two products of T x T x width; the backward pass costs twice the forward pass.
    attention = 12.0 * layers * width * columns**2
    flops = 6.0 * weights * columns + attention
    return {
        "seconds": 1000 * median(clock.seconds) / rows,
        "flops": 1000 * flops,
        "tokens": columns,
        "tokens_removed": removed,
    }


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Time and arithmetic along each axis, relative to its first point."""
    figure = new_figure(LIGHT, width=9, height=6.4)
    for index, (axis, points) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(2, 2, index)
        x = [point["value"] for point in points]
        for i, (key, marker) in enumerate((("seconds", "o"), ("flops", "s"))):
            y = [point[key] / points[0][key] for point in points]
            name = {"seconds": "seconds", "flops": "arithmetic"}[key]
            axes.plot(
                x, y, "-" if i == 0 else "--", marker=marker, color=LIGHT.series[i], label=name
            )
        if axis in ("batch size", "width"):
            axes.set_xscale("log", base=2)
        axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(axis)
        axes.set_ylabel("1,000 examples, first = 1")
        style_axes(axes, LIGHT)
        legend(axes, LIGHT)
    save(figure, path)
