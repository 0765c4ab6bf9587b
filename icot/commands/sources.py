"""The examples that ``icot.evaluate`` scores: the run's own, a file's, and further ones.

    also=[mult4, lines.txt, "{length: 20}", "{task: mult4, easy_held_out: 1}"]

A task's name or file, the run's task with other values, or another task with them.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import OmegaConf

from icot.commands.build import build_task
from icot.config.checks import validate
from icot.config.command_line import compose_config
from icot.config.entry_points import EvaluateConfig
from icot.config.schema import TrainConfig
from icot.errors import ConfigError, DataError, first_line
from icot.evaluation.loading import Source
from icot.runs.evaluations import slug
from icot.runs.kept_run import KeptRun
from icot.runs.names import endings, free_name
from icot.tasks.base import Split, Task
from icot.tasks.parity import Parity
from icot.tasks.reading import OnBadLine
from icot.tasks.records import FILES
from icot.tasks.text_files import TextFiles

log = logging.getLogger(__name__)

Wanted = str | Mapping[str, Any]


def own_source(cfg: EvaluateConfig, run: KeptRun) -> Source:
    """A split of the run's task, or ``data_file``; the run's task judges the answers of both.

    Raises:
        DataError: it cannot be read.
    """
    if cfg.data_file is None:
        return split_of_run(run, cfg.split, ", or set data_file=")
    return _file_source(Path(cfg.data_file), cfg, run)


def split_of_run(run: KeptRun, split: Split, or_else: str = "") -> Source:
    """A split of the run's task.

    Args:
        run: the run.
        split: of its task.
        or_else: what else the command could do without the data, for the message.

    Raises:
        DataError: it cannot be read.
    """
    try:
        task = build_task(run.cfg.task)
    except DataError as error:
        raise DataError(
            f"{run.folder}: the run's own data cannot be read: {error} Start the command "
            f"in the directory where the training was started{or_else}."
        ) from None
    return Source.own(task, split)


def further_sources(cfg: EvaluateConfig, run: KeptRun) -> dict[str, Source]:
    """What ``also`` asks for, by the name of its column.

    Raises:
        ConfigError, DataError: there is no such task, it has no such key, or cannot be read.
    """
    found: dict[str, Source] = {}
    for name, wanted in zip(column_names(cfg.also), cfg.also, strict=True):
        if _is_file(wanted):
            found[name] = _file_source(Path(str(wanted)), cfg, run)
            continue
        task = _build({"task": wanted} if isinstance(wanted, str) else wanted, run)
        _check_positions(name, task, run)
        split = cfg.split if task.size(cfg.split) != 0 else "test"
        found[name] = Source.own(task, split)
    if found:
        _warn_of_training_questions(found, run)
    return found


def column_names(also: Sequence[Wanted]) -> list[str]:
    """A task with its values; a file's stem, or so much of its path as no other file has.

        >>> column_names([{"length": 8}, "a/test.txt", "b/test.txt"])  # if these are files
        ["length=8", "a/test.txt", "b/test.txt"]

    Raises:
        ConfigError: two have one name.
    """
    possible = [_possible_names(wanted) for wanted in also]
    names: list[str] = []
    for i, own in enumerate(possible):
        others = [*possible[:i], *possible[i + 1 :]]
        if len(own) == 1:  # a task keeps its name, and a file takes another
            others = [other for other in others if len(other) == 1]
        name = free_name(own, others, slug)
        if name is None:
            raise ConfigError([f"also: two entries have the name {own[0]}; leave one out"])
        names.append(name)
    return names


def _possible_names(wanted: Wanted) -> list[str]:
    """The names of an entry, shortest first; a task has one."""
    if not _is_file(wanted):
        values = {"task": wanted} if isinstance(wanted, str) else wanted
        return [" ".join(str(v) if k == "task" else f"{k}={v}" for k, v in values.items())]
    path = Path(str(wanted))
    return [path.stem, *endings(path.parent.resolve() / path.name)]


def _is_file(wanted: Wanted) -> bool:
    return isinstance(wanted, str) and Path(wanted).is_file()


def _build(values: Mapping[str, Any], run: KeptRun) -> Task:
    """The run's task with other values, or the one that ``task`` names."""
    changes = {key: value for key, value in values.items() if key != "task"}
    own = run.cfg.as_dict()
    base = own["task"]
    if "task" in values:
        try:
            composed = compose_config("train", [f"task={values['task']}"])
        except HydraException as error:
            raise ConfigError(
                [f"also: {values['task']} is neither a file nor a task ({first_line(error)})"]
            ) from None
        base = composed.as_dict()["task"]
    cfg = validate(OmegaConf.create({**own, "task": {**base, **changes}}), TrainConfig)
    assert isinstance(cfg, TrainConfig)
    return build_task(cfg.task)


def _check_positions(name: str, task: Task, run: KeptRun) -> None:
    """Raises:
    ConfigError: other bits count than those that the run was trained on.
    """
    if not isinstance(task, Parity) or not issubclass(get_class(run.cfg.task.target), Parity):
        return
    trained = build_task(run.cfg.task)
    assert isinstance(trained, Parity)
    if task.positions != trained.positions and not (task.all_count and trained.all_count):
        raise ConfigError(
            [
                f"also: {name} has other hidden positions than the run, {task.positions} and not "
                f"{trained.positions}; set distractors= for longer questions, and leave bits, "
                "hidden and seed as they are"
            ]
        )


def _file_source(path: Path, cfg: EvaluateConfig, run: KeptRun) -> Source:
    texts = lines_of(path, cfg.on_bad_line)
    own = issubclass(get_class(run.cfg.task.target), TextFiles)
    return Source(texts if own else build_task(run.cfg.task), texts, "valid", str(path))


def lines_of(path: Path, on_bad_line: OnBadLine) -> TextFiles:
    """A user's file of lines, as the validation split.

    Raises:
        DataError: there is no such file, or it holds records.
    """
    if not path.is_file():
        raise DataError(f"data_file={path}: no such file.")
    if path.suffix in FILES:
        keys = {"data_dir": path.parent, "test_file": path.name}
        also = ", ".join(f"{key}: {value}" for key, value in keys.items())
        task = " ".join(f"task.{key}={value}" for key, value in keys.items())
        raise DataError(
            f"{path}: holds records, not lines. Judge a run on them with 'also=[{{task: NAME, "
            f"{also}}}]', and a model that gets prompts with task=NAME {task} split=test; NAME is "
            "a task that reads such records."
        )
    return TextFiles(path.parent, None, path.name, None, on_bad_line=on_bad_line)


def _warn_of_training_questions(sources: Mapping[str, Source], run: KeptRun) -> None:
    """Say how many of the further questions are training questions, if the run's data are here."""
    try:
        trained = set(_questions(build_task(run.cfg.task), "train"))
    except DataError:
        return
    for name, source in sources.items():
        seen = sum(question in trained for question in _questions(source.texts, source.split))
        if seen:
            log.warning("also, %s: %d questions are among the training questions.", name, seen)


def _questions(task: Task, split: Split) -> Iterator[str]:
    for part in task.chunks(split):
        yield from (example.question for example in part)
