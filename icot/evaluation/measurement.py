"""One set of weights at its stage, measured: how good, how fast, and where it fails."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.data.staged import StagedExamples
from icot.data.tokenized import TokenizedSplit, separator_id, tokenize_split
from icot.errors import DataError, RunError
from icot.evaluation.failures import POSITION, Group, answer_positions, by_difficulty
from icot.evaluation.predictions import Prediction
from icot.evaluation.scoring import Decode, Evaluation, evaluate, wilson_interval
from icot.evaluation.speed import best_batch, one_at_a_time
from icot.evaluation.tradeoff import TradeoffPoint
from icot.models.introspection import config_of, device_of
from icot.models.loading import restore_model
from icot.models.positions import learned_positions
from icot.models.tokenizers import load_tokenizer
from icot.runs.checkpoints import Checkpoint, KeptRun
from icot.runs.directory import machine
from icot.system.hardware import device_for
from icot.tasks.base import Split, Task

log = logging.getLogger(__name__)

WARM_UP = 64  # examples scored before the clock starts


@dataclass(frozen=True)
class Source:
    """Where the examples come from, and who judges the answers.

    Attributes:
        task: judges.
        texts: yields the examples; the task itself, or a file of the user's.
        split: of ``texts``.
        name: for the record.
    """

    task: Task
    texts: Task
    split: Split
    name: str

    @classmethod
    def own(cls, task: Task, split: Split) -> "Source":
        """A split of the task itself."""
        return cls(task, task, split, f"task {task.name}")


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        record: numbers by name, for ``evaluation.json``.
        predictions: in the order of the split.
        failures: groups of examples by what sets them apart.
    """

    record: dict[str, Any]
    predictions: list[Prediction]
    failures: dict[str, list[Group]]

    def tradeoff_point(self, baseline: bool = False) -> TradeoffPoint:
        """As a point of the trade-off curve; the speed must have been measured."""
        r = self.record
        return TradeoffPoint(
            name=r["title"] if baseline else r["name"],
            tokens_removed=r["tokens_removed"],
            tokens_per_example=r["tokens_per_example"],
            accuracy=r["accuracy"],
            accuracy_low=r["accuracy_low"],
            accuracy_high=r["accuracy_high"],
            examples_per_second=r["speed"]["examples_per_second"],
            speed=r["speed"]["speed_over_no_cot"],
            baseline=baseline,
        )


def measure(
    run: KeptRun,
    checkpoint: Checkpoint,
    source: Source,
    *,
    tokens_removed: int | None,
    limit: int | None,
    how: Decode,
    batch_size: int,
    accelerator: str,
    precision: str,
    timed: int,
    seconds: float,
    cache_dir: Path,
) -> Measured:
    """Score ``checkpoint`` of ``run`` on ``source``.

    Args:
        tokens_removed: from each chain; None is what the weights were trained at.
        limit: score the first so many examples; None is all.
        how: ``verify`` or ``always``.
        batch_size: examples decoded at once.
        accelerator, precision: as in the trainer.
        timed: questions timed one at a time; 0 measures no speed.
        seconds: bounds each timing.
        cache_dir: where token stores are kept.

    Raises:
        RunError, ModelError, DataError: something cannot be read or does not fit.
    """
    model, tokenizer, examples = loaded(
        run, checkpoint, source, tokens_removed, limit, accelerator, cache_dir
    )
    with precision_context(model, precision):
        warm_up = examples.part(np.arange(min(WARM_UP, len(examples))))
        evaluate(model, warm_up, source.task, tokenizer, batch_size, how)
        begun = perf_counter()
        found = evaluate(model, examples, source.task, tokenizer, batch_size, how)
        record = {
            "name": checkpoint.name,
            "title": _title(checkpoint, examples, run),
            "run_dir": str(run.folder),
            "checkpoint": str(checkpoint.path),
            "task": source.task.name,
            "data": source.name,
            "split": source.split,
            "stage": checkpoint.stage,
            "tokens_removed": examples.tokens_removed,
            "fully_internalized": examples.tokens_removed >= examples.store.longest_cot,
            **numbers(found),
            "decode": how,
            "scoring_seconds": perf_counter() - begun,  # of a warm process
            "batch_size": batch_size,
            "precision": precision,
            "device": str(device_of(model)),
            **machine(),
        }
        if timed:
            record["speed"] = speed(model, examples, timed, seconds)
    difficulties = [
        source.task.difficulty(example) or source.texts.difficulty(example)
        for example in islice(
            chain.from_iterable(source.texts.chunks(source.split)), len(found.predictions)
        )
    ]
    failures = {
        POSITION: answer_positions(found.predictions, source.task.extract_answer),
        **by_difficulty(found.predictions, difficulties),
    }
    record["failures"] = {name: as_rows(groups) for name, groups in failures.items()}
    return Measured(record, found.predictions, failures)


def loaded(
    run: KeptRun,
    checkpoint: Checkpoint,
    source: Source,
    tokens_removed: int | None,
    limit: int | None,
    accelerator: str,
    cache_dir: Path,
) -> tuple[nn.Module, PreTrainedTokenizerBase, StagedExamples]:
    """The model with its weights, its tokenizer, and the examples at the stage; see ``measure``."""
    cfg = run.cfg.model
    tokenizer = load_tokenizer(str(run.model_folder), source.task)
    lora: Any = OmegaConf.to_container(cfg.lora) if cfg.lora.r is not None else None
    model = restore_model(run.model_folder, checkpoint.weights, cfg.attn_implementation, lora).to(
        device_for(accelerator)
    )
    store = tokenize_split(source.texts, source.split, tokenizer, cache_dir)
    if len(store) == 0:
        raise DataError(f"{source.name} has no example in its {source.split} split.")
    removed = checkpoint.tokens_removed if tokens_removed is None else tokens_removed
    if removed is None:
        raise RunError(
            f"checkpoint {checkpoint.path} does not say at which stage it was trained; set "
            "tokens_removed= to the tokens of the chain that its weights leave out."
        )
    examples = StagedExamples(
        store,
        np.arange(len(store))[:limit],
        min(removed, store.longest_cot),
        separator_id(tokenizer),
        run.cfg.schedule.side,
        run.cfg.schedule.keep_position_ids,
    )
    _check_fit(model, examples, source, tokenizer.unk_token_id)
    return model, tokenizer, examples


def numbers(found: Evaluation) -> dict[str, Any]:
    """An evaluation's figures by name."""
    return {
        **share(found.correct, found.n),
        "token_accuracy": found.token_accuracy,
        "perplexity": found.perplexity,
        "tokens_per_example": found.tokens_per_example,
        "decoded": found.decoded,
        "near_ties": found.near_ties,
    }


def as_rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Groups of examples for ``evaluation.json``."""
    return [{"label": group.label, **share(group.correct, group.n)} for group in groups]


def share(correct: int, n: int) -> dict[str, Any]:
    """Exact match of ``correct`` among ``n`` examples, with its 95 % interval."""
    low, high = wilson_interval(correct, n)
    return {
        "n": n,
        "correct": correct,
        "accuracy": correct / n,
        "accuracy_low": low,
        "accuracy_high": high,
    }


def speed(model: nn.Module, examples: StagedExamples, timed: int, seconds: float) -> dict[str, Any]:
    """Examples a second at batch 1, at the best batch size, and over No CoT on the same model."""
    ways = {"stage": examples, "no_cot": examples.at(examples.store.longest_cot)}
    single = one_at_a_time(model, ways, timed, seconds)
    stage, no_cot = single["stage"], single["no_cot"]
    best = best_batch(model, examples, seconds)
    return {
        **stage.summary(),
        "no_cot": no_cot.summary(),
        "speed_over_no_cot": stage.examples_per_second / no_cot.examples_per_second,
        "best_batch_size": None if best is None else best[0],
        "best_batch_examples_per_second": None if best is None else best[1],
    }


def _title(checkpoint: Checkpoint, examples: StagedExamples, run: KeptRun) -> str:
    if run.cfg.schedule.kind == "fixed":
        if examples.tokens_removed == 0:
            return "explicit CoT"
        if examples.tokens_removed >= examples.store.longest_cot:
            return "No CoT"
    stage = "" if checkpoint.stage is None else f"stage {checkpoint.stage}, "
    return f"{stage}{examples.tokens_removed} of {examples.store.longest_cot} tokens removed"


def _check_fit(
    model: nn.Module, examples: StagedExamples, source: Source, unknown: int | None
) -> None:
    positions = learned_positions(config_of(model))
    if positions is not None and examples.positions > positions:
        raise DataError(
            f"{source.name}: the longest example needs {examples.positions} positions at this "
            f"stage, the model has learned {positions}. Score shorter examples, or train with such."
        )
    if unknown is not None and unknown != examples.eos_token_id:
        count = _with_token(examples.store, unknown)
        if count:
            log.warning(
                "%s: %d of %d examples hold symbols that the tokenizer does not know.",
                source.name,
                count,
                len(examples.store),
            )


def _with_token(store: TokenizedSplit, token_id: int) -> int:
    places = np.flatnonzero(store.tokens == token_id)
    return len(np.unique(np.searchsorted(store.offsets, places, side="right")))


def precision_context(model: nn.Module, precision: str) -> AbstractContextManager[Any]:
    """What forward passes are made in: autocast for ``bf16-mixed``, as the weights are else."""
    if precision == "bf16-mixed":
        return torch.autocast(device_of(model).type, torch.bfloat16)
    return nullcontext()
