"""Tables in the terminal."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from icot.data.statistics import TokenStatistics
from icot.evaluation.failures import Group
from icot.evaluation.predictions import Prediction


def print_stages(console: Console, rows: Sequence[Mapping[str, Any]], longest_cot: int) -> None:
    """One line per finished stage (the rows of stages.csv)."""
    title = f"Stages (the longest chain has {longest_cot} tokens)"
    names = ("stage", "removed", "step", "examples", "min", "accuracy", "95 %", "tokens", "perpl.")
    table = _table(title, names)
    for row in rows:
        measured = ["-"] * 4  # accuracy, its interval, token accuracy, perplexity
        if row.get("val_accuracy") is not None:
            measured = [
                f"{row['val_accuracy']:.3f}",
                f"{row['val_accuracy_low']:.2f}-{row['val_accuracy_high']:.2f}",
                _number(row.get("val_token_accuracy"), ".3f"),
                _number(row.get("val_perplexity"), ".3f"),
            ]
        table.add_row(
            str(row["stage"]),
            str(row["tokens_removed"]),
            f"{row['step']:,}",
            f"{row['examples_seen']:,}",
            f"{row['seconds'] / 60:.1f}",
            *measured,
        )
    console.print(table)


def print_devices(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per device (``per_device`` of summary.json)."""
    names = ("rank", "examples/s", "tokens/s", "weights, gradients, moments", "peak memory")
    table = _table("Devices", names)
    for row in rows:
        table.add_row(
            str(row["rank"]),
            f"{row['examples_per_second']:,.1f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['state_memory_bytes'] / 1e9:.2f} GB",
            f"{row['peak_memory_bytes'] / 1e9:.2f} GB",
        )
    console.print(table)


def print_probes(console: Console, records: Sequence[Mapping[str, Any]]) -> None:
    """A line for each probed model and kind of thing (the records of probe.json)."""
    names = ("model", "removed", "read", "things", "accuracy", "control", "token", "question")
    table = _table("Probes at their best layer and position, means", names)
    for record in records:
        for kind, means in record["summary"].items():
            shares = [
                _number(means[n], ".3f") for n in ("accuracy", "control", "token", "from_question")
            ]
            removed = str(record["tokens_removed"])
            table.add_row(record["model"], removed, kind, str(means["things"]), *shares)
    console.print(table)


def print_evaluations(console: Console, records: Sequence[Mapping[str, Any]]) -> None:
    """One line per evaluated set of weights or file (the records of evaluation.json)."""
    title = f"Evaluation of {records[0]['n']:,} examples"
    columns = ["stage", "removed", "accuracy", "95 %", "tokens", "perpl.", "written"]
    timed = any("speed" in record for record in records)
    if timed:
        columns += ["ex/s", "speed", "batched"]
    table = _table(title, columns)
    for r in records:
        row = [
            r["name"],
            str(r.get("tokens_removed", "-")),
            f"{r['accuracy']:.4f}",
            f"{r['accuracy_low']:.3f}-{r['accuracy_high']:.3f}",
            _number(r.get("token_accuracy"), ".4f"),
            _number(r.get("perplexity"), ".3f"),
            _number(r.get("tokens_per_example"), ".1f"),
        ]
        if "speed" in r:
            s = r["speed"]
            row += [
                _number(s["examples_per_second"], ".1f"),
                f"{s['speed_over_no_cot']:.2f}" + ("=" if s["same_as_no_cot"] else ""),
                _number(s["best_batch_examples_per_second"], ",.0f"),
            ]
        table.add_row(*row)
    console.print(table)
    for r in records[-1:] if timed else ():
        s = r["speed"]
        console.print(
            "tokens: token accuracy. written: tokens per example. ex/s: examples per second at "
            "batch 1. speed: over writing as many tokens as the answer has on the same model, for "
            f"{r['name']} {s['speed_over_no_cot']:.2f} ({s['speed_over_no_cot_low']:.2f}-"
            f"{s['speed_over_no_cot_high']:.2f}, 95 %); = where both wrote the same tokens, one "
            "computation timed twice. batched: examples per second at the best batch size.",
            highlight=False,
            style="dim",
        )


def print_prompted(console: Console, record: Mapping[str, Any]) -> None:
    """A prompted model's figures (the record of its evaluation.json)."""
    table = _table(f"{record['title']}: {record['n']:,} questions of {record['data']}", ("", ""))
    low, high = record["accuracy_low"], record["accuracy_high"]
    table.add_row(f"accuracy ({record['comparison']})", f"{record['accuracy']:.4f}")
    table.add_row("95 %", f"{low:.3f}-{high:.3f}")
    for name in ("accuracy_strict", "accuracy_numeric", "broken_format", "truncated"):
        table.add_row(name.replace("_", " "), f"{record[name]:.4f}")
    table.add_row("tokens written", f"{record['tokens_per_example']:.1f}")
    if "speed" in record:
        table.add_row("examples/s, one at a time", f"{record['speed']['examples_per_second']:.3g}")
    console.print(table)


def print_further(console: Console, records: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy on the further examples of the same records, a column each; nothing without."""
    names = list(records[-1].get("also", {}))
    if not names:
        return
    table = Table(title="Accuracy on further examples", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("stage", "removed", "own", *names):
        table.add_column(name, justify="right", overflow="fold")
    for r in records:
        accuracies = [r["accuracy"], *(r["also"][name]["accuracy"] for name in names)]
        cells = [f"{accuracy:.3f}" for accuracy in accuracies]
        table.add_row(r["name"], str(r["tokens_removed"]), *cells)
    console.print(table)


def print_votes(console: Console, records: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy by the number of votes; nothing for records without votes."""
    counted = [r for r in records if "votes" in r]
    if not counted:
        return
    counts = list(counted[0]["votes"]["accuracy_by_votes"])
    table = Table(title="Accuracy of the majority of so many samples", box=SIMPLE_HEAD)
    further = {"accuracy_of_one": "one", "greedy": "greedy", "any_right": "any"}
    further |= {"ties": "ties", "unparsed": "unparsed"}
    further = {key: name for key, name in further.items() if key in counted[0]["votes"]}
    for name in ("", *counts, *further.values()):
        table.add_column(name, justify="right")
    for r in counted:
        votes = r["votes"]
        figures = [votes["accuracy_by_votes"][count] for count in counts]
        figures += [votes[key] for key in further]
        table.add_row(r["name"], *(f"{figure:.3f}" for figure in figures))
    console.print(table)


def print_grid(console: Console, groups: Sequence[Group]) -> None:
    """Accuracy by the digits of both operands; nothing for groups that are not ``n1 × n2``."""
    pairs = {tuple(group.label.split(" × ")): group for group in groups}
    if not pairs or any(len(pair) != 2 for pair in pairs):
        return
    rows, columns = (sorted({pair[i] for pair in pairs}, key=int) for i in (0, 1))
    table = Table(title="Accuracy by digits", box=SIMPLE_HEAD)
    for name in ("a × b", *columns):
        table.add_column(name, justify="right")
    for row in rows:
        found = [pairs.get((row, column)) for column in columns]
        table.add_row(row, *("" if group is None else f"{group.accuracy:.3f}" for group in found))
    console.print(table)


def print_benchmark(console: Console, record: Mapping[str, Any]) -> None:
    """Medians and ratios of a benchmark (the record of its JSON file)."""
    title = str(record["what"])
    if "parameters" in record:
        title += f": {record['parameters'] / 1e6:.1f} million weights, {record['precision']}"
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("", justify="right")
    for name, seconds in record.get("median_seconds", {}).items():
        table.add_row(name, _seconds(seconds, record["seconds"][name]))
    for name, stage in record.get("stages", {}).items():
        for way, seconds in stage["median_seconds"].items():
            table.add_row(f"{name} removed, {way}", _seconds(seconds, stage["seconds"][way]))
        ceiling = stage["ceiling_flops_per_second"] / 1e9
        share = f"{stage['utilisation']['ours']:.0%} of {ceiling:,.0f} GFLOP/s"
        table.add_row(f"{name} removed, model FLOPs utilisation", share)
        table.add_row(f"{name} removed, padding", f"{stage['padding']:.0%}")
    for name, timing in record.get("timings", {}).items():
        low, high = timing["examples_per_second_quartiles"]
        rate = f"{timing['examples_per_second']:.3g}/s ({low:.3g}-{high:.3g})"
        table.add_row(name, f"{rate}, {timing['tokens_per_example']:.4g} tokens")
    for name, size in record.get("megabytes", {}).items():
        table.add_row(name, f"{size:,.0f} MB")
    for name, number in record.get("in_flight", {}).items():
        table.add_row(f"{name}, requests in flight", f"{number:.2f} of {record['concurrency']}")
    for name, ratio in record["ratios"].items():
        table.add_row(name, f"{ratio:.3g} times")
    console.print(table)


def _seconds(middle: float, times: Sequence[float]) -> str:
    return f"{middle:.3g} s ({min(times):.3g}-{max(times):.3g}, n={len(times)})"


def print_sweep(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per run of a sweep (the rows of its index.csv)."""
    done = sum(row["state"] == "finished" for row in rows)
    table = Table(title=f"{done} of {len(rows)} runs finished", box=SIMPLE_HEAD, padding=0)
    for name in ("run", "state", "accuracy", "removed", "min"):
        table.add_column(name, justify="left" if name in ("run", "state") else "right")
    for row in rows:
        minutes = f"{float(row['seconds']) / 60:.1f}" if row["seconds"] else "-"
        state = f"{row['state']}: {row['error']}" if row["error"] else row["state"]
        name = row["directory"] or row["overrides"]
        table.add_row(name, state, row["accuracy"] or "-", row["tokens_removed"] or "-", minutes)
    console.print(table, markup=False, highlight=False)


def print_pipeline(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per step of a pipeline (the rows of its steps.csv)."""
    done = sum(row["state"] == "finished" for row in rows)
    table = Table(title=f"{done} of {len(rows)} steps finished", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("step", "state", "result"):
        table.add_column(name)
    for row in rows:
        table.add_row(row["step"], row["state"], row["result"] or "-")
    console.print(table, markup=False, highlight=False)


def print_examples(console: Console, predictions: Sequence[Prediction], count: int) -> None:
    """``count`` predictions, alternating wrong and correct ones."""
    wrong = [p for p in predictions if not p.correct]
    right = [p for p in predictions if p.correct]
    alternating = [p for pair in zip_longest(wrong, right) for p in pair if p is not None]
    table = Table(title="Examples", show_lines=True)
    for name in ("", "question", "target", "prediction"):
        table.add_column(name, overflow="fold")
    for p in alternating[:count]:
        texts = (_shorten(text) for text in (p.question, p.target, p.prediction))
        table.add_row("right" if p.correct else "wrong", *texts)
    console.print(table, markup=False, highlight=False)


def print_token_statistics(
    console: Console, statistics: Mapping[str, TokenStatistics], title: str
) -> None:
    """Tokens of question, chain and answer per split: median, smallest, largest."""
    table = Table(title=title)
    for name in ("split", "examples", "question", "CoT", "answer"):
        table.add_column(name, justify="right")
    for split, s in statistics.items():
        cells = [
            f"{median:g} ({low}-{high})" for median, low, high in (s.question, s.cot, s.answer)
        ]
        table.add_row(split, f"{s.examples:,}", *cells)
    console.print(table)


def _table(title: str, names: Sequence[str]) -> Table:
    """A table of numbers that fits into 80 columns."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _shorten(text: str, width: int = 160) -> str:
    """Cut the middle of a long text; the answer is at the end."""
    return text if len(text) <= width else f"{text[: width // 3]} ... {text[-2 * width // 3 :]}"
