"""Tokenizing, with and without the cache, against one tokenizer call per line."""

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from icot.benchmarks.plain_loop import tokenize_lines
from icot.benchmarks.timing import medians, time_starts
from icot.commands.build import build_task, build_tokenizer
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.data.tokenized import tokenize_split
from icot.tasks.text_files import TextFiles


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Seconds to tokenize the task's first ``lines`` training examples, from one text file."""
    task = build_task(cfg.task)
    tokenizer = build_tokenizer(cfg.model, task)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        file = root / "train.txt"
        examples = (example for chunk in task.chunks("train") for example in chunk)
        lines = [example.line() + "\n" for example in islice(examples, cfg.lines)]
        file.write_text("".join(lines), encoding="utf-8")

        def ours(cache: str) -> None:
            texts = TextFiles(root, valid_file=None, test_file=None)
            tokenize_split(texts, "train", tokenizer, root / cache)

        def plain() -> None:
            with file.open(encoding="utf-8") as lines:
                tokenize_lines(lines, tokenizer)

        seconds = time_starts(ours, plain, cfg.repeats)
    middle = medians(seconds)
    return {
        "task": task.name,
        "tokenizer": cfg.model.tokenizer or cfg.model.name_or_path,
        "lines": len(lines),
        "seconds": seconds,
        "median_seconds": middle,
        "ratios": {
            "tokenizing": middle["plain"] / middle["ours"],
            "second start": middle["plain"] / middle["ours, second start"],
        },
    }
