"""The examples that ``icot.evaluate`` scores: the run's own, a file's, and further ones.

    also=[mult4, lines.txt, "{length: 20}", "{task: mult4, easy_held_out: 1}"]

A task's name or file, the run's task with other values, or another task with them.
"""

import logging
from collections.abc import Iterator, Mapping
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
from icot.runs.kept_run import KeptRun
from icot.tasks.base import Split, Task
from icot.tasks.text_files import TextFiles

log = logging.getLogger(__name__)


def own_source(cfg: EvaluateConfig, run: KeptRun) -> Source:
    """A split of the run's task, or ``data_file``; the run's task judges the answers of both.

    Raises:
        DataError: it cannot be read.
    """
    if cfg.data_file is None:
        return split_of_run(run, cfg.split, ", or set data_file=")
    path = Path(cfg.data_file)
    if not path.is_file():
        raise DataError(f"data_file={path}: no such file.")
    return _file_source(path, cfg, run)


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
    for wanted in cfg.also:
        if isinstance(wanted, str) and Path(wanted).is_file():
            found[Path(wanted).stem] = _file_source(Path(wanted), cfg, run)
            continue
        values = {"task": wanted} if isinstance(wanted, str) else dict(wanted)
        name = " ".join(str(v) if k == "task" else f"{k}={v}" for k, v in values.items())
        task = _build(values, run)
        split = cfg.split if task.size(cfg.split) != 0 else "test"
        found[name] = Source.own(task, split)
    if found:
        _warn_of_training_questions(found, run)
    return found


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


def _file_source(path: Path, cfg: EvaluateConfig, run: KeptRun) -> Source:
    texts = TextFiles(path.parent, None, path.name, None, on_bad_line=cfg.on_bad_line)
    own = issubclass(get_class(run.cfg.task.target), TextFiles)
    return Source(texts if own else build_task(run.cfg.task), texts, "valid", str(path))


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
