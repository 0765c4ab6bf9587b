"""The sections of a report, in their order."""

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import mean
from typing import Any

from icot.config.options import LinearScheduleConfig
from icot.removal import offset_probabilities
from icot.reporting import charts, prompted
from icot.reporting.by_setting import by_setting
from icot.reporting.charts import Line, Lines, Point, file_name, points_of
from icot.reporting.comparison import outside, tasks_and_methods
from icot.reporting.differences import differences, nearest, of_experiment
from icot.reporting.document import Code, Document, Picture, Section, Table
from icot.reporting.finding import Found
from icot.reporting.paper import PAPER, paper_rows
from icot.reporting.prompted import paper_cell
from icot.reporting.run_cards import runs_at_hand
from icot.reporting.runs import Missing, Run
from icot.reporting.series import SYMBOLS, Series, gather_series
from icot.reporting.statistics import mean_interval, with_interval

MISSING = "missing"


def document(found: Found) -> Document:
    """The whole report on some runs, and what could not be read of them."""
    runs = found.runs
    series = gather_series(runs)
    done = [one for one in series if one.accuracies]
    sections = [
        runs_at_hand(series),
        prompted.section(found.prompted),
        *by_sweep(runs),
        *by_setting(runs),
        seeds(done),
        *tasks_and_methods(runs),
        outside(series),
        delta_lambda(done),
        tradeoffs(series),
        evaluations(series),
        against_the_paper(runs, found.prompted),
        offsets(series),
        cost(series),
        every_run(series, found.missing),
        not_read(found.unreadable),
    ]
    text = f"{sum(run.finished for run in runs)} of {len(runs)} runs have finished."
    if found.missing:
        text += (
            f" {len(found.missing)} runs of sweeps are unfinished; Every run has their commands."
        )
    if found.unreadable:
        text += f" {len(found.unreadable)} files could not be read; the last section names them."
    return Document("Runs of icot", text, [s for s in sections if s is not None])


def not_read(messages: Sequence[str]) -> Section | None:
    """What the report lacks because it could not be read."""
    if not messages:
        return None
    text = "The report goes on without these files, and without the runs that they belong to."
    return Section("Not read", text, [Table(("what is wrong",), [[m] for m in messages])])


def against_the_paper(runs: Sequence[Run], asked: Sequence[prompted.Prompted] = ()) -> Section:
    """The paper's numbers next to ours, and how ours differ; the others folded."""
    rows, others, notes = [], [], []
    for row in paper_rows():
        cells = []
        for name in (row.experiment, *row.siblings):
            kept, left_out = of_experiment(runs, name, row.method)
            ours = nearest(kept, name)
            cells.append(_ours(ours, left_out, [pair for pair, _ in row.accuracies]))
            if ours:
                notes.append([Code(name), "; ".join(differences(ours.seeds, row.experiment))])
        cells[0] = paper_cell(row.experiment, asked) or cells[0]
        if any(cells):
            own, small = cells[0] or MISSING, (*cells, "")[1]
            rows.append([row.name, row.number, own, small, Code(row.command)])
        else:
            others.append([row.name, row.number, Code(row.command)])
    header = ("number", "paper", "ours", "ours at CPU size", "command")
    tables = [Table(header, rows, frozenset({1, 2, 3}))] if rows else []
    if notes:
        tables.append(Table(("runs", "differences from the paper"), notes))
    if others:
        folded = f"{len(others)} numbers of the papers have no run here: their commands"
        tables.append(Table(("number", "paper", "command"), others, frozenset({1}), folded))
    text = (
        f"The numbers of {PAPER}, or of a named paper. Speed is examples per second at batch 1, "
        "over No CoT's. A CPU-sized sibling is a smaller version of a row: it does not reproduce "
        "the row's number. Add _cpu to an experiment's name for its sibling. Runs that ended with "
        "more of the chain left than the number is for are left out."
    )
    return Section("Against the paper", text if rows else "", tables)


def seeds(series: Sequence[Series]) -> Section | None:
    """The seeds of every series that has several."""
    several = [one for one in series if len(one.accuracies) > 1]
    if not several:
        return None
    text = (
        "The interval is Student's t at 95 %, over seeds, not over held-out questions. The mean "
        "includes seeds that ended with part of their chain left."
    )
    return Section("Seeds", text, pictures=[charts.seeds(several)])


def by_sweep(runs: Sequence[Run]) -> list[Section]:
    """Accuracy against tokens removed, one section per task and sweep (Figures 3 and 4)."""
    groups: dict[tuple[str, str | None], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.task, run.sweep), []).append(run)
    sections = []
    for (task, sweep), alike in groups.items():
        # A baseline is shown with every sweep of its task.
        others = [r for r in runs if r not in alike and r.task == task and r.is_baseline]
        series = [one for one in gather_series([*alike, *others]) if one.accuracies]
        moving = [one for one in series if len(one.curve) > 1]
        if len(moving) < 2:  # its card shows it
            continue
        levels = [one for one in series if one.is_baseline]
        lines = [Line(_counted(one), _mean_curve(one)) for one in moving]
        lines += [Line(_counted(s), [Point(0, mean(s.accuracies))], "level") for s in levels]
        title = f"{task}, sweep {sweep}" if sweep else task
        picture = Lines(lines).picture(
            file_name("accuracy_by_tokens_removed", title),
            f"Accuracy by tokens removed, {title}.",
            "Mean over seeds at the end of each stage, with a band from the lowest to the highest "
            "seed, or for one seed its 95 % interval; dotted: baselines at their end.",
        )
        sections.append(Section(f"Accuracy against tokens removed: {title}", pictures=[picture]))
    return sections


def _counted(series: Series) -> str:
    count = len(series.seeds)
    return series.name + (f" ({count} seeds)" if count > 1 else "")


def _mean_curve(series: Series) -> list[Point]:
    if len(series.seeds) == 1:
        return points_of(series.seeds[0])
    return [Point(x, mean(ys), min(ys), max(ys)) for x, ys in sorted(series.curve.items())]


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
        counts = sorted({len(one.accuracies) for one in alike})
        task = alike[0].task
        pictures.append(
            charts.heat_map(
                f"delta_lambda{number}",
                f"Final exact match by tokens per epoch and smoothing, {task}.",
                f"{task}; seeds per cell: {' to '.join(map(str, counts))}. Below an accuracy: how "
                "much was removed in runs that ended with part of their chain left.",
                values,
                marks,
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
                title += f", majority of {r['samples']}" if "votes" in r else ""
                cells = [title, examples, f"{r['n']:,}", with_interval(r)]
                cells += ["" if speed is None else f"{speed:.2f}×", evaluation.evaluated[:10]]
                rows.append([f"{one.label}, seed {run.cfg.seed}", *cells])
    if not rows:
        return None
    header = ("run", "weights", "examples", "n", "accuracy (95 %)", "speed over No CoT", "date")
    return Section("Evaluations", tables=[Table(header, rows, frozenset({3, 4, 5}))])


def tradeoffs(series: Sequence[Series]) -> Section | None:
    """Accuracy against speed, for runs whose stages have been evaluated (Figure 2a)."""
    lines = []
    for one in series:
        for run in one.runs:
            label = f"{one.label}, seed {run.cfg.seed}"
            points = sorted((p for p in run.tradeoff if not p["baseline"]), key=itemgetter("speed"))
            front = [_speed_point(p) for p in points if not p["dominated"]]
            rest = [_speed_point(p) for p in points if p["dominated"]]
            lines += [Line(label, front)] if front else []
            lines += [Line(f"{label}, dominated", rest, "pale")] if rest else []
    if not lines:
        return None
    picture = Lines(lines, "speed over No CoT, at batch 1", "exact match").picture(
        "tradeoff",
        "Accuracy by speed over No CoT, for stages that no other dominates.",
        "A line joins the stages that no other stage of the run dominates; others are pale. "
        "Numbers: tokens removed.",
    )
    return Section("Accuracy against speed", pictures=[picture])


def _speed_point(row: Mapping[str, Any]) -> Point:
    return Point.of(row["speed"], row, note=f"{row['tokens_removed']:.0f}")


def offsets(series: Sequence[Series]) -> Section | None:
    """The offsets that removal smoothing draws in these runs, and in the paper's (Figure 2b)."""
    found = {one.cfg.schedule.smoothing_lambda for one in series}
    lambdas = sorted(lam for lam in found if math.isfinite(lam))
    if not lambdas:
        return None
    lines = [
        Line(
            f"λ = {lam:g}",
            [Point(o, p) for o, p in enumerate(offset_probabilities(lam)[:9].tolist()) if p > 1e-6],
        )
        for lam in sorted({4.0, *lambdas})
    ]
    picture = Lines(lines, "tokens removed beyond the schedule's, o", "probability", True).picture(
        "offsets",
        "Probability of o more tokens, which falls exponentially.",
        "Each example of each batch loses o more tokens than the schedule says, P(o) ∝ exp(-λ o). "
        "The paper's λ is 4.",
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
            cells = [state, with_interval(run.summary), run.removed, run.date, revision]
            rows.append([f"{one.label}, seed {run.cfg.seed}", *cells, Code(run.command)])
    for lacking in (*ended_otherwise.values(), *(m for m in missing if m.folder is None)):
        name = str(lacking.folder or lacking.name)
        rows.append([name, lacking.state, MISSING, "", "", "", Code(lacking.command)])
    header = ("run", "state", "accuracy (95 %)", "removed", "date", "revision", "command")
    return Section("Every run", tables=[Table(header, rows, frozenset({3}))])


def _ours(series: Series | None, left_out: Sequence[Run], pairs: Sequence[str]) -> str:
    """Accuracy and speed of a series in a cell; "" where there is nothing.

    ``pairs`` of digit counts are told apart where an evaluation has them.
    """
    text = ""
    if series is not None and series.accuracies:
        middle, low, high = mean_interval(series.accuracies)
        text = f"{middle:.3f}"
        if low is not None:
            text += f" ({low:.3f}-{high:.3f}, {len(series.accuracies)} seeds)"
        if pairs:
            text += " over all pairs"
            for pair in pairs:
                of_pair = [run.by_digits[pair] for run in series.seeds if pair in run.by_digits]
                text += f", {mean(of_pair):.3f} ({pair})" if of_pair else ""
        speeds = [run.speed for run in series.seeds if run.speed is not None]
        text += f" at {mean(speeds):.2f}×" if speeds else ""
        voted = [run.majority for run in series.seeds if run.majority is not None]
        text += f", majority {mean(voted):.3f}" if voted else ""
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
