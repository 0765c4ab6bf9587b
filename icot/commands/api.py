"""icot from Python: what ``import icot`` offers (``docs/python.md`` has an example).

run = icot.train("task=mult2", "schedule=no_cot")      as python -m icot.train, in this process
run = icot.load("outputs/RUN")
run.answer(["2 1 * 3 4"])          ["#### 3 0 5 0"]
run.evaluate(stage="all")
"""

import csv
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.cli import compose_run
from icot.commands import evaluate as evaluate_command
from icot.commands import train as train_command
from icot.commands.build import build_task
from icot.commands.build_method import build_method, model_maker
from icot.config.checks import validate
from icot.config.entry_points import EvaluateConfig
from icot.data.fillers import filler_of
from icot.errors import ConfigError, RunError
from icot.evaluation.loading import removed_for, restore_weights
from icot.methods.base import PredictorParts
from icot.runs.checkpoints import ALL, Checkpoint, select_stage
from icot.runs.kept_run import KeptRun
from icot.runs.layout import STAGES
from icot.runs.resume import resolve_config


class Run(KeptRun):
    """A run directory: its configuration ``cfg``, ``summary`` and ``stages``, and its model.

    Args:
        folder: the directory.
        trusted: packages whose code it may name.

    Raises:
        RunError: it is none.
    """

    def __init__(self, folder: str | Path, trusted: Iterable[str] = ()) -> None:
        super().__init__(folder, trusted)
        self._models: dict[str, tuple[Checkpoint, nn.Module, PreTrainedTokenizerBase]] = {}

    def __repr__(self) -> str:
        accuracy = self.summary.get("accuracy")
        found = "not finished" if accuracy is None else f"accuracy {accuracy:.3f}"
        return f"Run({str(self.folder)!r}, {found})"

    @cached_property
    def stages(self) -> list[dict[str, float]]:
        """The rows of stages.csv, one per finished stage, without the cells that are empty."""
        if not (self.folder / STAGES).is_file():
            return []
        with (self.folder / STAGES).open(encoding="utf-8", newline="") as file:
            return [
                {key: float(text) for key, text in row.items() if text}
                for row in csv.DictReader(file)
            ]

    def answer(
        self,
        questions: Sequence[str],
        stage: str | int = "final",
        max_new_tokens: int = 512,
        budget: int | None = None,
    ) -> list[str]:
        """What the model writes for questions in the task's text, ``2 1 * 3 4``.

        Args:
            questions: any number; they are decoded together, greedily.
            stage: which weights: final, best, or a stage's number.
            max_new_tokens: when an output that does not end is given up.
            budget: tokens that are left of the run's longest chain, for a run of ``schedule=dial``;
                None is the stage that the weights were trained at.

        Returns:
            What is left of each chain, ``####`` and the answer.

        Raises:
            RunError: such weights are not kept.
            DataError: a question is too long for the model, or contains the separator.
            ConfigError: a value is wrong.
        """
        stage = str(stage)
        if isinstance(questions, str):
            raise ConfigError([f"answer takes a list of questions: answer([{questions!r}])"])
        if stage == ALL:
            raise ConfigError(["answer takes the weights of one stage: final, best, or a number"])
        method, options = build_method(self.cfg.method)
        if stage not in self._models:
            task = build_task(self.cfg.task)
            checkpoint = select_stage(self, stage)[0]
            model, tokenizer = restore_weights(self, checkpoint, task, model_maker(method, options))
            self._models[stage] = checkpoint, model, tokenizer
        checkpoint, model, tokenizer = self._models[stage]
        removed = checkpoint.tokens_removed
        if budget is not None:
            if budget < 0:
                raise ConfigError([f"budget={budget}: must be at least 0"])
            removed = removed_for(self, budget)
        return method.build_predictor(PredictorParts(model, self.trusted), options).answer(
            questions,
            tokenizer,
            max_new_tokens=max_new_tokens,
            tokens_removed=removed or 0,
            side=self.cfg.schedule.side,
            keep_position_ids=self.cfg.schedule.jumping_ids,
            separators=self.cfg.schedule.separators,
            fillers=filler_of(self.cfg.schedule, tokenizer).counts(removed or 0),
        )

    def evaluate(self, stage: str = "final", **options: Any) -> dict[str, Any]:
        """Measure the run's weights, as ``python -m icot.evaluate`` does, and write its files.

        Args:
            stage: which weights: final, best, all, or a stage's number.
            options: further keys of ``icot.evaluate``, ``examples=100``, ``split="test"``.

        Returns:
            The content of ``evaluation.json``; with stage all it has ``stages``.

        Raises:
            UserError: a key or value is wrong, or something cannot be read.
        """
        return evaluate(run_dir=str(self.folder), stage=stage, trust=self.trusted, **options)


def train(*overrides: str) -> Run:
    """Train in this process, as ``python -m icot.train OVERRIDES`` does; returns the run.

    Args:
        overrides: ``"task=mult2"``, ``"schedule.tokens_per_epoch=4"``, ``"resume=outputs/RUN"``.

    Raises:
        UserError: the message says what is wrong and what to do.
    """
    composed, command = compose_run("train", overrides)
    cfg = resolve_config(composed, command)
    train_command.run(cfg, command)
    return Run(cfg.paths.output_dir, cfg.trust)


def load(folder: str | Path, trust: Iterable[str] = ()) -> Run:
    """A trained run.

    Args:
        folder: its directory, or one of its checkpoints.
        trust: packages of yours whose tasks, schedules or methods it may name.

    Raises:
        RunError: there is none, or it names code of a package that is not trusted.
    """
    trust = [trust] if isinstance(trust, str) else list(trust)
    path = Path(folder)
    if path.suffix == ".ckpt" and not path.is_file():
        raise RunError(f"checkpoint {path}: no such file.")
    run = Run.of_checkpoint(path, trust) if path.is_file() else Run(path, trust)
    assert isinstance(run, Run)
    _ = run.cfg  # speak of mistakes now
    return run


def evaluate(**options: Any) -> dict[str, Any]:
    """Measure as ``python -m icot.evaluate`` does; the options are its keys.

    Returns:
        The content of ``evaluation.json``.

    Raises:
        UserError: a key or value is wrong, or something cannot be read.
    """
    values = {"paths": {"output_dir": ""}, **options}
    trust = values.get("trust", ())
    values["trust"] = [trust] if isinstance(trust, str) else list(trust)
    return evaluate_command.evaluate(validate(values, EvaluateConfig))
