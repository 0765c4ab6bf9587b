"""Loading a run's weights, and the examples to evaluate them on, at their stage."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.data.fillers import NO_FILLER, filler_of
from icot.data.leading_tokens import decide_bos
from icot.data.staged import StagedExamples, unknown_chain
from icot.data.tokenized import TokenizedSplit, kept_examples, separator_id, tokenize_split
from icot.errors import DataError, RunError
from icot.models.attention_choice import IMPLEMENTATIONS
from icot.models.introspection import config_of
from icot.models.loading import restore_model
from icot.models.positions import learned_positions, positions_key
from icot.models.tokenizers import load_tokenizer
from icot.runs.checkpoints import Checkpoint, is_fully_internalized
from icot.runs.kept_run import KeptRun
from icot.system.hardware import device_for
from icot.tasks.base import Example, Split, Task

log = logging.getLogger(__name__)


class MakeModel(Protocol):
    """Makes what a method trains from a causal LM."""

    def __call__(self, model: nn.Module, *, eos_token_id: int) -> nn.Module:
        """The model; ``eos_token_id`` is the separator."""


@dataclass(frozen=True)
class Source:
    """The source of the examples, and the task that judges the answers.

    Attributes:
        task: judges the answers.
        texts: yields the examples; the task itself, or a user's file.
        split: of ``texts``.
        name: the source's name in the record.
    """

    task: Task
    texts: Task
    split: Split
    name: str

    @classmethod
    def own(cls, task: Task, split: Split) -> "Source":
        """A split of the task itself."""
        return cls(task, task, split, f"task {task.name}")

    def stored(self, tokenizer: PreTrainedTokenizerBase) -> Iterator[Example]:
        """The examples that the split's token store holds, in its order."""
        return chain.from_iterable(kept_examples(self.texts, self.split, tokenizer))


@dataclass(frozen=True)
class Weights:
    """Weights of a run, loaded.

    Attributes:
        run: has the model's shape, the tokenizer, the side and the position ids.
        checkpoint: the checkpoint with the weights.
        model: with the weights, on its device, in evaluation mode.
        tokenizer: the run's tokenizer.
    """

    run: KeptRun
    checkpoint: Checkpoint
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True)
class Subject:
    """Weights, and the examples to evaluate them on.

    Attributes:
        weights: of a run.
        source: of the examples.
        examples: at the stage that the weights were trained at, or at another requested stage.
        fully_internalized: whether the whole chain is removed at that stage, also of chains that
            are longer than those of these examples.
        budget: tokens left of the longest chain, where that was asked for.
    """

    weights: Weights
    source: Source
    examples: StagedExamples
    fully_internalized: bool
    budget: int | None = None

    @property
    def run(self) -> KeptRun:
        """The run."""
        return self.weights.run

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint with the weights."""
        return self.weights.checkpoint

    @property
    def name(self) -> str:
        """Of the weights, or of the budget with which they are used."""
        return self.checkpoint.name if self.budget is None else f"budget-{self.budget}"

    @property
    def title(self) -> str:
        """A name for readers: the baseline's name, or stage and removed tokens; fillers."""
        fillers = self.examples.fillers
        if not fillers.any():
            return self._stage_title
        least, most = int(fillers.min()), int(fillers.max())
        return f"{self._stage_title}, {least if least == most else f'{least}-{most}'} fillers"

    @property
    def _stage_title(self) -> str:
        if self.run.cfg.schedule.kind == "fixed":
            if self.examples.tokens_removed == 0:
                return "explicit CoT"
            if self.fully_internalized:
                return "No CoT"
        number = self.checkpoint.stage
        stage = "" if number is None else f"stage {number}, "
        removed, longest = self.examples.tokens_removed, self.examples.store.longest_cot
        return f"{stage}{removed} of {longest} tokens removed"

    def where(self) -> dict[str, Any]:
        """The entries of ``evaluation.json`` on the examples."""
        return {
            "task": self.source.task.name,
            "data": self.source.name,
            "split": self.source.split,
            "tokens_removed": self.examples.tokens_removed,
        }

    def describe(self) -> dict[str, Any]:
        """The entries of ``evaluation.json`` on weights and examples."""
        return {
            "name": self.name,
            "title": self.title,
            "run_dir": str(self.run.folder),
            "checkpoint": str(self.checkpoint.path),
            **self.where(),
            "stage": self.checkpoint.stage,
            "fully_internalized": self.fully_internalized,
            **({} if self.budget is None else {"budget": self.budget}),
            **self._fillers,
        }

    @property
    def _fillers(self) -> dict[str, Any]:
        """An entry on fillers, where there are any."""
        if self.examples.filler == NO_FILLER:
            return {}
        return {"fillers_per_example": float(self.examples.fillers.mean())}


def removed_for(run: KeptRun, budget: int) -> int:
    """The tokens to remove so that ``budget`` are left of the longest chain in the run's training.

    Raises:
        RunError: the run has no summary yet, which knows that chain.
    """
    longest = run.summary.get("longest_cot")
    if not isinstance(longest, int):
        raise RunError(
            f"budget={budget}: {run.folder} has not finished, so it does not say how long its "
            "longest chain is; set tokens_removed= in place of budget=."
        )
    return max(0, longest - budget)


def load_for_evaluation(
    run: KeptRun,
    checkpoint: Checkpoint,
    source: Source,
    *,
    tokens_removed: int | None,
    budget: int | None = None,
    limit: int | None,
    accelerator: str,
    cache_dir: Path,
    make: MakeModel | None = None,
) -> Subject:
    """Load model, tokenizer and examples: ``load_weights``, then ``choose_examples``.

    Raises:
        RunError, ModelError, DataError: something cannot be read or does not fit.
    """
    return choose_examples(
        load_weights(run, checkpoint, source.task, accelerator, make),
        source,
        tokens_removed=tokens_removed,
        budget=budget,
        limit=limit,
        cache_dir=cache_dir,
    )


def load_weights(
    run: KeptRun,
    checkpoint: Checkpoint,
    task: Task,
    accelerator: str,
    make: MakeModel | None = None,
) -> Weights:
    """Model and tokenizer, on a device as in the trainer; ``make`` as in ``restore_weights``.

    Raises:
        ModelError: something cannot be read or does not fit.
    """
    model, tokenizer = restore_weights(run, checkpoint, task, make)
    return Weights(run, checkpoint, model.to(device_for(accelerator)), tokenizer)


def choose_examples(
    weights: Weights,
    source: Source,
    *,
    tokens_removed: int | None,
    budget: int | None = None,
    limit: int | None,
    cache_dir: Path,
    max_new_tokens: int = 0,
) -> Subject:
    """The examples of a source at a stage, for weights that are loaded.

    Args:
        weights: to evaluate.
        source: of the examples.
        tokens_removed: from each chain; None is the stage that the weights were trained at, which
            removes the whole chain where it did so in training, however long these chains are.
        budget: in place of ``tokens_removed``, how many are left of the run's longest chain.
        limit: the number of examples to use, from the start; None is all.
        cache_dir: the folder of token stores.
        max_new_tokens: that may be written, if it is more than the longest correct output.

    Raises:
        RunError, DataError: something cannot be read or does not fit.
    """
    run, checkpoint, tokenizer = weights.run, weights.checkpoint, weights.tokenizer
    store = tokenize_split(source.texts, source.split, tokenizer, cache_dir)
    if len(store) == 0:
        raise DataError(f"{source.name} has no example in its {source.split} split.")
    if budget is not None:
        tokens_removed = removed_for(run, budget) if budget else store.longest_cot
    removed = checkpoint.tokens_removed if tokens_removed is None else tokens_removed
    internalized = is_fully_internalized(run, checkpoint) if tokens_removed is None else None
    if internalized:
        removed = store.longest_cot
    if removed is None:
        raise RunError(
            f"checkpoint {checkpoint.path} does not say at which stage it was trained; set "
            "tokens_removed= to the number of chain tokens that were removed in training."
        )
    writes_none = internalized or budget == 0
    unknown = (
        0 if writes_none else unknown_chain(store, run.summary.get("longest_cot", 0) - removed)
    )
    examples = StagedExamples(
        store,
        np.arange(len(store))[:limit],
        min(removed, store.longest_cot),
        separator_id(tokenizer),
        run.cfg.schedule.side,
        run.cfg.schedule.jumping_ids,
        max_new_tokens,
        run.cfg.schedule.separators,
        filler_of(run.cfg.schedule, tokenizer),
        unknown,
    )
    _check_fit(weights.model, examples, source, tokenizer.unk_token_id)
    if internalized is None:
        internalized = removed >= store.longest_cot and not unknown
    return Subject(weights, source, examples, internalized, budget)


def restore_weights(
    run: KeptRun, checkpoint: Checkpoint, task: Task | None = None, make: MakeModel | None = None
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """The run's model with the weights of a checkpoint, on the CPU, and its tokenizer.

    ``make`` makes what the run's method trains from a causal LM and the separator's number; None is
    the LM itself.

    Raises:
        ModelError: something cannot be read or does not fit.
    """
    settings = run.cfg.model
    lora = settings.lora.as_dict() if settings.lora.r is not None else None
    attention = settings.attn_implementation or _measured_attention(run)
    tokenizer = load_tokenizer(str(run.model_folder), task)
    made = None if make is None else partial(make, eos_token_id=separator_id(tokenizer))
    model = restore_model(run.model_folder, checkpoint.weights, attention, lora, made)
    return model, decide_bos(tokenizer, settings.add_bos)


def _measured_attention(run: KeptRun) -> str | None:
    """The implementation of attention that training chose by measurement, where it did."""
    chosen = run.environment.get("attn_implementation")
    return chosen if chosen in IMPLEMENTATIONS else None


def _check_fit(
    model: nn.Module, examples: StagedExamples, source: Source, unknown: int | None
) -> None:
    positions = learned_positions(config_of(model))
    if positions is not None and examples.positions > positions:
        raise DataError(
            f"{source.name}: the longest example needs {examples.positions} positions at this "
            f"stage, the model has only {positions}. Score shorter ones, train on longer ones, or "
            "train a new model with a larger model.config."
            f"{positions_key(config_of(model))}: those beyond the training examples then stay "
            "untrained."
        )
    if unknown is not None and unknown != examples.eos_token_id:
        count = _count_examples_with(unknown, examples.store)
        if count:
            log.warning(
                "%s: %d of %d examples contain symbols that the tokenizer does not know.",
                source.name,
                count,
                len(examples.store),
            )


def _count_examples_with(token_id: int, store: TokenizedSplit) -> int:
    indices = np.flatnonzero(store.tokens == token_id)
    return len(np.unique(np.searchsorted(store.offsets, indices, side="right")))
