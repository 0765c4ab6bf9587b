"""``python -m icot.prepare task=T``: write a task's text files and print its token statistics.

    python -m icot.prepare task=mult9 model=gpt2 split=valid size=1000 seed=7 out=/tmp/mult9

Writes ``{train,valid,test}.txt`` in the format ``question||cot #### answer`` into ``data/T`` or
``out``, prints Table 1 for the model's tokenizer, and fills the token cache that training reads.
"""

from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PreTrainedTokenizerBase

from icot.commands.build import build_task, build_tokenizer
from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import PrepareConfig
from icot.config.options import AnyTask
from icot.data.statistics import token_statistics
from icot.data.tokenized import kept_examples, tokenize_split
from icot.errors import ConfigError, DataError
from icot.reporting.tables import print_token_statistics
from icot.system.output import lock_output, write_at_once
from icot.tasks.base import SPLITS, Example, Split, Task
from icot.tasks.lines import write_line
from icot.tasks.text_files import TextFiles

COUNTED = 20_000  # examples per split that the statistics are taken from


def run(cfg: PrepareConfig, command: CommandLine) -> None:
    """Write the files, print the statistics, fill the cache."""
    quiet_libraries()
    wanted: tuple[Split, ...] = SPLITS if cfg.split == "all" else (cfg.split,)
    task = build_task(_task_asked_for(cfg, wanted, command))
    tokenizer = build_tokenizer(cfg.model, task)
    name = command.choices["task"]
    folder = Path(cfg.out or Path(cfg.paths.data_dir) / name)
    console = Console(highlight=False, soft_wrap=True)
    counted: dict[str, Any] = {}
    said = []
    _check_no_source(task, [folder / f"{split}.txt" for split in wanted])
    with lock_output(folder), write_at_once(folder) as writing:
        for split in wanted:
            if task.size(split) == 0:
                continue
            path = folder / f"{split}.txt"
            sample = _write(task, split, tokenizer, writing / path.name)
            if not sample:
                raise DataError(f"task {task.name} has no example in its {split} split.")
            counted[split] = token_statistics(sample[:COUNTED], tokenizer)
            store = tokenize_split(task, split, tokenizer, Path(cfg.paths.cache_dir))
            skipped = f", {task.skipped(split):,} bad lines skipped" if task.skipped(split) else ""
            said.append(
                f"{path}: {len(store):,} lines{skipped}, {store.index['tokens']:,} tokens, the "
                f"longest example {store.longest}, the longest chain {store.longest_cot} with its "
                "blanks"
            )
    for text in said:
        console.print(text)
    tokenizer_name = cfg.model.tokenizer or cfg.model.name_or_path
    print_token_statistics(
        console, counted, f"Tokens, median (smallest-largest), tokenizer {tokenizer_name}"
    )


def _task_asked_for(cfg: PrepareConfig, wanted: tuple[Split, ...], command: CommandLine) -> AnyTask:
    """The task with ``size`` and ``seed`` in its own keys."""
    changes: dict[str, Any] = {}
    if cfg.size is not None:
        changes |= {f"{split}_size": cfg.size for split in wanted}
    if any(text.startswith("seed=") for text in command.overrides):
        # Only where the command line says so: an experiment's seed is the training's.
        if "seed" not in cfg.task.as_dict():
            raise ConfigError([f"seed={cfg.seed}: this task has no random seed"])
        changes["seed"] = cfg.seed
    return cfg.task.model_copy(update=changes)


def _check_no_source(task: Task, written: list[Path]) -> None:
    """Refuse to replace a file that the task reads, for whichever split.

    Raises:
        DataError: one is such a file.
    """
    sources = [task.path(split) for split in SPLITS] if isinstance(task, TextFiles) else []
    for path in filter(Path.exists, written):
        if any(source and source.exists() and source.samefile(path) for source in sources):
            raise DataError(f"{path} is what the task reads; set out= to another folder.")


def _write(
    task: Task, split: Split, tokenizer: PreTrainedTokenizerBase, path: Path
) -> list[Example]:
    """Write a split; returns the first examples, for the statistics.

    Raises:
        DataError: an example that no line can hold.
    """
    sample: list[Example] = []
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for examples in kept_examples(task, split, tokenizer):
            if len(sample) < COUNTED:
                sample += examples
            file.writelines(f"{_line(example, task, split)}\n" for example in examples)
    return sample


def _line(example: Example, task: Task, split: Split) -> str:
    try:
        return write_line(example)
    except ValueError as error:
        raise DataError(
            f"task {task.name}, {split}: an example {error}; as a line of a text file it could not "
            f"be read again: {example.line()[:200]!r}"
        ) from None
