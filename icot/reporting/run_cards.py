"""The first section of a report: a card for each series of runs."""

from collections.abc import Sequence
from statistics import mean

from icot.reporting.charts import Line, Lines, Point, file_name, points_of
from icot.reporting.document import Card, Code, Picture, Section, Table
from icot.reporting.runs import Run
from icot.reporting.series import Series
from icot.reporting.statistics import seeds_interval, with_interval

TEXT = (
    "A card for each run, or for runs that differ only in their seed. Accuracy is exact match on "
    "the validation split at the end of training, by greedy decoding, with its 95 % interval: over "
    "the questions for one run (Wilson's), over the seeds for several (Student's t). Time is wall "
    "time of training and validation; runs may have shared a machine."
)


def runs_at_hand(series: Sequence[Series]) -> Section | None:
    """A card for each series, by task, baselines last."""
    if not series:
        return None
    tasks = list(dict.fromkeys(one.task for one in series))
    ordered = sorted(series, key=lambda one: (tasks.index(one.task), one.is_baseline))
    return Section("Runs", TEXT, cards=[_card(one, _baselines(one, series)) for one in ordered])


def _baselines(one: Series, series: Sequence[Series]) -> list[Series]:
    """The measured baselines of a series' task; none for a baseline."""
    if one.is_baseline:
        return []
    return [s for s in series if s.is_baseline and s.task == one.task and s.accuracies]


def _card(one: Series, against: Sequence[Series]) -> Card:
    figure, meaning = _accuracy(one)
    facts = {
        "each seed": ", ".join(map(_seed, one.measured)) if len(one.measured) > 1 else "",
        "not finished": ", ".join(_progress(run) for run in one.seeds if not run.finished),
        **_cost([run for run in one.seeds if run.finished]),
        "other settings": ", ".join(one.details),
        "command": Code(one.runs[0].command),
    }
    rows = [_row(one, other) for other in against if one.accuracies]
    header = ("against", "exact match", "difference", "examples")
    tables = [Table(header, rows, frozenset({1, 2, 3}))] if rows else []
    return Card(f"{one.task}: {one.name}", figure, meaning, facts, tables, _curve(one, against))


def _cost(runs: Sequence[Run]) -> dict[str, str]:
    """What finished runs have removed, how fast they answer, and what a run of them took."""
    if not runs:
        return {}
    always = runs[0].is_baseline and runs[0].summary["tokens_removed"]
    since = " from the first batch on" if always else ""
    speeds = [run.speed for run in runs if run.speed is not None]
    trained = [training for run in runs for training in run.trainings.values()]
    each = len(trained) / len(runs)
    amounts = {
        "examples": [run.summary["examples_seen"] for run in trained],
        "tokens": [tokens for run in trained if (tokens := run.summary.get("tokens_seen"))],
    }
    flops = [run.flops for run in trained if run.flops is not None]
    cost = [f"{sum(counts) / len(runs):,.0f} {name}" for name, counts in amounts.items() if counts]
    cost += [f"{sum(flops) / len(runs):.2e} FLOPs"] if flops else []
    cost += [f"in {each:g} trainings"] if each > 1 else []
    machines = ", ".join(dict.fromkeys(run.machine for run in runs))
    seconds = sum(run.summary["seconds"] for run in trained) / len(runs)
    return {
        "removed": ", ".join(dict.fromkeys(f"{run.removed} chain tokens{since}" for run in runs)),
        "speed": f"{mean(speeds):.2f} × No CoT's" if speeds else "",
        "time": f"{_time(seconds)} on {machines}",
        "cost": ", ".join(cost) + (" a run" if len(runs) > 1 else ""),
    }


def _accuracy(one: Series) -> tuple[str, str]:
    """The accuracy with its interval, and what it is."""
    if not one.accuracies:
        finished = any(run.finished for run in one.runs)
        return ("not measured", "") if finished else ("not finished", "")
    if len(one.accuracies) == 1:
        (run,) = one.measured
        n = run.summary.get("validation_examples")
        questions = f" on {n:,} questions" if n else ""
        left = f"; {run.remainder}" if run.remainder else ""
        return with_interval(run.summary), f"exact match{questions}{left}"
    early = sum(bool(run.remainder) for run in one.measured)
    text = f"mean exact match of {len(one.accuracies)} seeds"
    text += f"; {early} ended with part of the chain left" if early else ""
    return seeds_interval(one.accuracies), text


def _seed(run: Run) -> str:
    return f"{run.cfg.seed}: {run.accuracy:.3f}" + (f" ({run.remainder})" if run.remainder else "")


def _progress(run: Run) -> str:
    """Where an unfinished run is."""
    text = f"seed {run.cfg.seed}"
    if not run.stages:
        return f"{text} before the end of its first stage"
    return f"{text} after stage {run.stages[-1]['stage']:.0f}"


def _time(seconds: float) -> str:
    """A time in a unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _row(one: Series, other: Series) -> list[str]:
    difference = mean(one.accuracies) - mean(other.accuracies)
    examples = mean(run.summary["examples_seen"] for run in other.measured)
    return [other.name, _accuracy(other)[0], f"{difference:+.3f}", f"{examples:,.0f}"]


def _curve(one: Series, against: Sequence[Series]) -> list[Picture]:
    """The accuracy of each seed by tokens removed; nothing where nothing was removed in steps."""
    if len(one.curve) < 2:
        return []
    lines = [Line(f"seed {run.cfg.seed}", points_of(run)) for run in one.seeds if run.curve]
    levels = [Line(s.name, [Point(0, mean(s.accuracies))], "level") for s in against]
    caption = "Accuracy at the end of each stage, with its 95 % interval over the questions"
    caption += "; dotted: baselines at their end." if levels else "."
    picture = Lines([*lines, *levels]).picture(
        file_name("run", one.label), f"Accuracy by tokens removed, {one.label}.", caption
    )
    return [picture]
