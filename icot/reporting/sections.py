"""The sections of a report."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any

from icot.config.options import LinearScheduleConfig
from icot.config.task_options import MultiplicationConfig
from icot.removal import offset_probabilities
from icot.reporting import charts, prompted
from icot.reporting.comparison import outside, tasks_and_methods
from icot.reporting.differences import differences, nearest, of_experiment
from icot.reporting.document import Code, Document, Picture, Section, Table
from icot.reporting.paper import PAPER, paper_rows
from icot.reporting.prompted import paper_cell
from icot.reporting.runs import Found, Missing, Run
from icot.reporting.series import SYMBOLS, Series, gather_series
from icot.reporting.statistics import mean_interval

MISSING = "missing"


def document(found: Found) -> Document:
    """The whole report on some runs, and what could not be read of them."""
    runs = found.runs
    series = gather_series(runs)
    done = [one for one in series if one.accuracies]
    sections = [
        not_read(found.unreadable),
        against_the_paper(runs, found.prompted),
        prompted.section(found.prompted),
        *tasks_and_methods(runs),
        seeds(done),
        *by_sweep(runs),
        delta_lambda(done),
        evaluations(series),
        tradeoffs(done),
        *outside(series),
        offsets(series),
        cost(series),
        every_run(series, found.missing),
    ]
    text = f"{sum(run.finished for run in runs)} of {len(runs)} runs have finished."
    if found.missing:
        text += (
            f" {len(found.missing)} runs of sweeps are unfinished; the last section has their "
            "commands."
        )
    text += (
        " Accuracy is exact match on the validation split at the end of training, by greedy "
        "decoding, unless a heading says otherwise."
    )
    return Document("Runs of icot", text, [s for s in sections if s is not None])


def not_read(messages: Sequence[str]) -> Section | None:
    """What the report lacks because it could not be read."""
    if not messages:
        return None
    text = "The report goes on without these files, and without the runs that they belong to."
    return Section("Not read", text, [Table(("what is wrong",), [[m] for m in messages])])


def against_the_paper(runs: Sequence[Run], asked: Sequence[prompted.Prompted] = ()) -> Section:
    """The paper's numbers next to ours, and how ours differ."""
    rows, notes = [], []
    for row in paper_rows():
        cells = []
        for name in (row.experiment, *row.siblings):
            kept, left_out = of_experiment(runs, name, row.method)
            ours = nearest(kept, name)
            cells.append(_ours(ours, left_out))
            if ours:
                notes.append([Code(name), "; ".join(differences(ours.seeds, row.experiment))])
        own = paper_cell(row.experiment, asked) or cells[0] or MISSING
        rows.append([row.name, row.number, own, (*cells, "")[1], Code(row.command)])
    header = ("number", "paper", "ours", "ours at CPU size", "command")
    tables = [Table(header, rows, frozenset({1, 2, 3}))]
    if notes:
        tables.append(Table(("runs", "differences from the paper"), notes))
    text = (
        f"Every number of {PAPER} that has an experiment file. Speed is examples per second at "
        "batch 1, over No CoT's. A CPU-sized sibling is a smaller version of a row: it does not "
        "reproduce the row's number. Add _cpu to an experiment's name for its sibling. Runs that "
        "ended with more of the chain left than the number is for are left out."
    )
    return Section("Against the paper", text, tables)


def seeds(series: Sequence[Series]) -> Section | None:
    """Mean and interval of every series with several seeds."""
    several = [one for one in series if len(one.accuracies) > 1]
    if not several:
        return None
    rows = []
    for one in several:
        middle, low, high = mean_interval(one.accuracies)
        rows.append(
            [
                one.label,
                _task(one.runs[0]),
                str(len(one.accuracies)),
                f"{middle:.3f}",
                f"{low:.3f}-{high:.3f}",
                ", ".join(
                    f"{r.cfg.seed}: {r.accuracy:.3f}" + (f" ({r.remainder})" if r.remainder else "")
                    for r in one.measured
                ),
            ]
        )
    text = (
        "The interval is Student's t at 95 %, cut at 0 and 1. It is over seeds, not over held-out "
        "questions, and with three seeds it is wide. A seed that ended with part of its chain left "
        "is marked; the mean includes it."
    )
    alternative = "Final exact match by series: " + "; ".join(
        f"{one.label} {mean(one.accuracies):.3f} of {len(one.accuracies)} seeds" for one in several
    )
    header = ("series", "task", "seeds", "mean", "95 % interval", "each seed")
    return Section(
        "Seeds",
        text,
        [Table(header, rows, frozenset({2, 3, 4}))],
        [
            Picture(
                "seeds",
                alternative + ".",
                "A dot is a run, hollow if part of its chain is left; the bar across is the mean.",
                partial(charts.seeds, several),
            )
        ],
    )


def by_sweep(runs: Sequence[Run]) -> list[Section]:
    """Accuracy against tokens removed, one section per task and sweep (Figures 3 and 4)."""
    groups: dict[tuple[str, str | None], list[Run]] = {}
    for run in runs:
        groups.setdefault((_task(run), run.sweep), []).append(run)
    sections = []
    for (task, sweep), alike in groups.items():
        # A baseline is shown with every sweep of its task.
        others = [r for r in runs if r not in alike and _task(r) == task and r.is_baseline]
        series = [one for one in gather_series([*alike, *others]) if one.accuracies]
        moving = [one for one in series if len(one.curve) > 1]
        if not moving:
            continue
        title = f"{task}, sweep {sweep}" if sweep else task
        name = "_".join(re.findall(r"\w+", title.replace("×", "x"))).lower()
        shown = [one for one in series if one in moving or one.runs[0].is_baseline]
        pictures = [
            Picture(
                f"accuracy_by_tokens_removed_{name}",
                f"Validation exact match against tokens removed, {title}. " + _describe(shown),
                "Mean over seeds at the end of each stage, with a band from the lowest to the "
                "highest seed; dotted lines are the final accuracies of baselines.",
                partial(charts.accuracy_curves, shown),
            )
        ]
        several = [one for one in moving if len(one.seeds) > 1]
        if several:
            pictures.append(
                Picture(
                    f"seeds_by_tokens_removed_{name}",
                    f"The same for each seed, {title}. " + _lowest(several),
                    "One line per seed.",
                    partial(charts.seed_curves, several),
                )
            )
        sections.append(Section(f"Accuracy against tokens removed: {title}", pictures=pictures))
    return sections


def delta_lambda(series: Sequence[Series]) -> Section | None:
    """Final accuracy by Δ and λ, for runs in which only these vary."""
    grids: dict[frozenset[tuple[str, str]], list[Series]] = {}
    for one in series:
        if isinstance(one.cfg.schedule, LinearScheduleConfig):
            rest = {k: v for k, v in one.runs[0].settings.items() if k not in SYMBOLS}
            grids.setdefault(frozenset(rest.items()), []).append(one)
    pictures: list[Picture] = []
    for alike in grids.values():
        cells_of = {
            (s.tokens_per_epoch, s.smoothing_lambda): one
            for one in alike
            if isinstance(s := one.cfg.schedule, LinearScheduleConfig)
        }
        values = {place: mean(one.accuracies) for place, one in cells_of.items()}
        marks = {place: _remainders(one.measured) for place, one in cells_of.items()}
        if min(len({d for d, _ in values}), len({lam for _, lam in values})) < 2:
            continue
        number = f"_{len(pictures) + 1}" if pictures else ""
        cells = "; ".join(
            f"Δ {d:g}, λ {lam:g}: {v:.3f}" + (f" ({marks[d, lam]})" if marks[d, lam] else "")
            for (d, lam), v in sorted(values.items())
        )
        counts = sorted({len(one.accuracies) for one in alike})
        task = _task(alike[0].runs[0])
        pictures.append(
            Picture(
                f"delta_lambda{number}",
                f"Final exact match by tokens per epoch and smoothing, {task}. {cells}.",
                f"{task}; seeds per cell: {' to '.join(map(str, counts))}. Below an accuracy: how "
                "much was removed in runs that ended with part of their chain left.",
                partial(charts.heat_map, values, marks),
            )
        )
    if not pictures:
        return None
    return Section("Tokens per epoch and smoothing", pictures=pictures)


def evaluations(series: Sequence[Series]) -> Section | None:
    """What icot.evaluate has found, in each run's directory."""
    rows = []
    for one in series:
        for run in one.runs:
            for evaluation in run.evaluations:
                r, speed = evaluation.record, evaluation.speed.get("speed_over_no_cot")
                examples = " ".join(str(r[key]) for key in ("data", "split") if key in r)
                title = str(r.get("title", "")) + (", unfinished" if "unfinished" in r else "")
                cells = [title, examples, f"{r['n']:,}", _with_interval(r)]
                cells += ["" if speed is None else f"{speed:.2f}×", evaluation.evaluated[:10]]
                rows.append([f"{one.label}, seed {run.cfg.seed}", *cells])
    if not rows:
        return None
    header = ("run", "weights", "examples", "n", "accuracy (95 %)", "speed over No CoT", "date")
    return Section("Evaluations", tables=[Table(header, rows, frozenset({3, 4, 5}))])


def tradeoffs(series: Sequence[Series]) -> Section:
    """Accuracy against speed, for runs whose stages have been evaluated (Figure 2a)."""
    evaluated = [
        (f"{one.label}, seed {run.cfg.seed}", run)
        for one in series
        for run in one.runs
        if any(not p["baseline"] for p in run.tradeoff)
    ]
    title = "Accuracy against speed"
    if not evaluated:
        command = "python -m icot.evaluate run_dir=RUN stage=all"
        return Section(title, f"Missing: no run's stages have been evaluated. Use {command}.")
    cells = "; ".join(
        f"{label}: "
        + ", ".join(
            f"{p['accuracy']:.3f} at {p['speed']:.2f} with {p['tokens_removed']:.0f} removed"
            for p in run.tradeoff
            if not p["baseline"] and not p["dominated"]
        )
        for label, run in evaluated
    )
    picture = Picture(
        "tradeoff",
        f"Exact match against speed over No CoT, for stages that no other dominates. {cells}.",
        "A line joins the stages that no other stage of the run dominates; others are pale.",
        partial(charts.tradeoffs, evaluated),
    )
    return Section(title, pictures=[picture])


def offsets(series: Sequence[Series]) -> Section:
    """The offsets that removal smoothing draws (Figure 2b)."""
    found = {one.cfg.schedule.smoothing_lambda for one in series}
    lambdas = sorted({4.0, *(lam for lam in found if math.isfinite(lam))})
    cells = "; ".join(
        f"λ {lam:g}: " + ", ".join(f"{p:.5f}" for p in offset_probabilities(lam)[:3].tolist())
        for lam in lambdas
    )
    picture = Picture(
        "offsets",
        f"Probability of 0, 1 and 2 more tokens, falling exponentially. {cells}.",
        "Each example of each batch loses o more tokens than the schedule says, P(o) ∝ exp(-λ o). "
        "The paper's λ is 4.",
        partial(charts.offset_distribution, lambdas),
    )
    return Section("Removal smoothing", pictures=[picture])


def cost(series: Sequence[Series]) -> Section:
    """Examples, tokens, FLOPs and time of each run."""
    rows = []
    for one in series:
        for run in one.runs:
            s = run.summary
            if not s:
                continue
            hours = s["seconds"] / 3600
            tokens = s.get("tokens_seen")
            rows.append(
                [
                    f"{one.label}, seed {run.cfg.seed}",
                    f"{s['examples_seen']:,}",
                    f"{tokens:,}" if tokens else "not counted",
                    f"{run.flops:.2e}" if run.flops else "-",
                    f"{hours:.3f}" if hours < 1 else f"{hours:.1f}",
                    f"{s['examples_seen'] / max(s['seconds'], 1e-9):,.0f}",
                    run.machine,
                ]
            )
    header = ("run", "examples", "tokens", "FLOPs", "hours", "examples/s", "machine")
    text = (
        "Examples and tokens are those trained on, without padding. FLOPs are 6 × weights × "
        "tokens. Hours are wall time of training and validation; runs may have shared a machine."
    )
    return Section("Cost", text, [Table(header, rows, frozenset(range(1, 6)))])


def every_run(series: Sequence[Series], missing: Sequence[Missing]) -> Section:
    """Each run and each missing run, with its command."""
    rows = []
    ended_otherwise = {m.folder: m for m in missing if m.folder is not None}
    for one in series:
        for run in one.runs:
            revision = str(run.environment.get("git_revision") or "")[:7]
            ended = ended_otherwise.pop(run.folder.resolve(), None)
            state = "finished" if run.finished else ended.state if ended else "unfinished"
            cells = [state, _with_interval(run.summary), run.removed, run.date, revision]
            rows.append([f"{one.label}, seed {run.cfg.seed}", *cells, Code(run.command)])
    for lacking in (*ended_otherwise.values(), *(m for m in missing if m.folder is None)):
        name = str(lacking.folder or lacking.name)
        rows.append([name, lacking.state, MISSING, "", "", "", Code(lacking.command)])
    header = ("run", "state", "accuracy (95 %)", "removed", "date", "revision", "command")
    return Section("Every run", tables=[Table(header, rows, frozenset({3}))])


def _ours(series: Series | None, left_out: Sequence[Run]) -> str:
    """Accuracy and speed of a series in a cell; "" where there is nothing."""
    text = ""
    if series is not None and series.accuracies:
        middle, low, high = mean_interval(series.accuracies)
        text = f"{middle:.3f}"
        if low is not None:
            text += f" ({low:.3f}-{high:.3f}, {len(series.accuracies)} seeds)"
        speeds = [run.speed for run in series.seeds if run.speed is not None]
        text += f" at {mean(speeds):.2f}×" if speeds else ""
    elif series is not None or left_out:
        text = MISSING
    if left_out:
        text += f", left out {len(left_out)}: {_removed(left_out)}"
    return text


def _removed(runs: Sequence[Run]) -> str:
    """How much was removed in runs, each amount once."""
    return ", ".join(dict.fromkeys(f"{run.removed} removed" for run in runs))


def _remainders(runs: Sequence[Run]) -> str:
    return _removed([run for run in runs if run.remainder])


def _with_interval(record: Mapping[str, Any]) -> str:
    """The accuracy that a summary or an evaluation has, with its interval where that is known."""
    accuracy, low, high = (record.get(f"accuracy{end}") for end in ("", "_low", "_high"))
    text = "" if accuracy is None else f"{accuracy:.3f}"
    return text if low is None or high is None else f"{text} ({low:.3f}-{high:.3f})"


def _task(run: Run) -> str:
    task = run.cfg.task
    if isinstance(task, MultiplicationConfig):
        chain = "" if task.chain == "long" else f", {task.chain}"
        return f"{task.digits} × {task.digits} digits{chain}"
    values = task.as_dict()
    named = values.get("name") or values.get("dataset") or run.environment.get("task")
    return str(named or values["_target_"])


def _describe(series: Sequence[Series]) -> str:
    return (
        "At the end: "
        + "; ".join(f"{one.label} {mean(one.accuracies):.3f}" for one in series)
        + ". "
        + _lowest([one for one in series if not one.runs[0].is_baseline])
    )


def _lowest(series: Sequence[Series]) -> str:
    """The lowest mean accuracy of each series, in words."""
    dips = []
    for one in series:
        points = one.curve
        deepest = min(points, key=lambda removed: mean(points[removed]))
        dips.append(f"{one.label} {mean(points[deepest]):.3f} at {deepest:.0f} removed")
    return "Lowest mean: " + "; ".join(dips) + "."
