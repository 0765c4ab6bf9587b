"""A Weights & Biases logger that plots validation metrics against tokens removed."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from icot.runs.layout import WANDB_ID
from icot.system.files import write_text
from icot.tracking.wandb_record import RUN
from icot.training.callbacks.stages import TOKENS_REMOVED

TAGS = ("task", "model", "schedule", "experiment")  # keys of the run's facts


def wandb_logger(options: Any, config: dict[str, Any], folder: Path, facts: dict[str, Any]) -> Any:
    """A logger for one run; offline unless logged in. A resumed run keeps its id.

    Args:
        options: ``project``, ``group``, ``job_type``, ``tags``, ``run_name``.
        config: the resolved configuration, logged with the run.
        folder: the run directory.
        facts: the facts of the run, logged with its configuration; ``sweep`` is its group.

    Raises:
        ImportError: wandb is not installed.
    """
    logged_in = bool(os.environ.get("WANDB_API_KEY")) or _netrc_has_key()
    offline = os.environ.get("WANDB_MODE", "online" if logged_in else "offline") != "online"
    logger = WandbLogger(
        project=options.project,
        group=options.group or facts.get("sweep"),
        job_type=options.job_type,
        tags=list(dict.fromkeys([*filter(None, map(facts.get, TAGS)), *options.tags])),
        name=options.run_name or folder.name,
        id=_run_id(folder),
        resume="allow",
        save_dir=folder,
        offline=offline,
        config={**config, RUN: facts},
    )
    experiment = logger.experiment
    if hasattr(experiment, "define_metric"):
        experiment.define_metric(TOKENS_REMOVED)
        experiment.define_metric("val/*", step_metric=TOKENS_REMOVED)
    return logger


def finish(loggers: Iterable[Any]) -> None:
    """End the W&B runs, so that the next run of this process, in a sweep, is a new one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger.experiment.finish()


def _run_id(folder: Path) -> str:
    """The W&B id of this run directory, created when the run begins."""
    path = folder / WANDB_ID
    if path.is_file():
        saved = path.read_text(encoding="utf-8").strip()
        if saved.isalnum():
            return saved
    new = secrets.token_hex(4)
    write_text(path, new + "\n")
    return new


def _netrc_has_key() -> bool:
    """Whether ``wandb login`` has saved a key."""
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return "wandb.ai" in path.read_text()
    except OSError:
        return False
