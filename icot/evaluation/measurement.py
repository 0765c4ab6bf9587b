"""Measuring a predictor on examples: accuracy, speed and failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from icot.data.fillers import NO_FILLER
from icot.data.staged import StagedExamples
from icot.evaluation.failures import POSITION, Group, answer_positions, by_difficulty
from icot.evaluation.loading import Source
from icot.evaluation.predictions import Prediction
from icot.evaluation.scoring import Evaluation, evaluate, wilson_interval
from icot.evaluation.speed import compare, find_best_batch, time_single_examples
from icot.evaluation.tradeoff import TradeoffPoint
from icot.inference.predictor import Predictor
from icot.system.machine import machine

WARM_UP = 64  # examples scored before the clock starts


@dataclass(frozen=True)
class Measured:
    """The results of an evaluation.

    Attributes:
        record: figures by name, for ``evaluation.json``.
        predictions: in the order of the split.
        failures: groups of examples, by answer position and by each measure of difficulty.
        also: the same on further examples, by their name.
    """

    record: dict[str, Any]
    predictions: list[Prediction]
    failures: dict[str, list[Group]]
    also: "dict[str, Measured]" = field(default_factory=dict)

    def tradeoff_point(self, baseline: bool = False) -> TradeoffPoint:
        """A point of the trade-off curve; needs a measured speed."""
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
            also={name: one.record["accuracy"] for name, one in self.also.items()},
        )


def measure(
    predictor: Predictor,
    examples: StagedExamples,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    *,
    about: Mapping[str, Any],
    timed: int,
    seconds: float,
) -> Measured:
    """Judge ``predictor`` on ``examples`` and time it.

    Args:
        predictor: writes the outputs.
        examples: at their stage.
        tokenizer: of the examples.
        source: of the examples; its task judges the answers.
        about: further entries of the record, on predictor and examples.
        timed: questions to time one at a time; 0 measures no speed.
        seconds: the most seconds of each timing.
    """
    warm_up = examples.part(np.arange(min(WARM_UP, len(examples))))
    evaluate(predictor, warm_up, source.task, tokenizer)
    judged = judge(predictor, examples, tokenizer, source)
    failures = judged.record.pop("failures")
    record = {
        **about,
        **judged.record,
        **predictor.settings,
        "device": str(predictor.device),
        **machine(),
    }
    if timed:
        record["speed"] = measure_speed(predictor, examples, timed, seconds)
    record["failures"] = failures
    return replace(judged, record=record)


def judge(
    predictor: Predictor,
    examples: StagedExamples,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
) -> Measured:
    """Score ``predictor`` on ``examples`` and group its failures, as in ``measure``."""
    task, begun = source.task, perf_counter()
    found = evaluate(predictor, examples, task, tokenizer)
    seconds = perf_counter() - begun
    failures = {
        POSITION: answer_positions(found.predictions, task.extract_answer),
        **by_difficulty(found.predictions, _difficulties(source, tokenizer, examples)),
    }
    rows = {name: as_rows(groups) for name, groups in failures.items()}
    record = {**numbers(found), "scoring_seconds": seconds, "failures": rows}
    return Measured(record, found.predictions, failures)


def _difficulties(
    source: Source, tokenizer: PreTrainedTokenizerBase, examples: StagedExamples
) -> list[Mapping[str, float | str]]:
    """The difficulty of each of ``examples``, from the text of the same row of the split."""
    of_split = [
        source.task.difficulty(example) or source.texts.difficulty(example)
        for example in islice(source.stored(tokenizer), int(examples.rows.max()) + 1)
    ]
    return [of_split[row] for row in examples.rows]


def numbers(found: Evaluation) -> dict[str, Any]:
    """The figures of an evaluation by name."""
    return {
        **share(found.correct, found.n),
        "token_accuracy": found.token_accuracy,
        "perplexity": found.perplexity,
        "tokens_per_example": found.tokens_per_example,
        "decoded": found.decoded,
        "near_ties": found.near_ties,
        **({} if found.votes is None else {"votes": found.votes}),
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


def measure_speed(
    predictor: Predictor, examples: StagedExamples, timed: int, seconds: float
) -> dict[str, Any]:
    """Examples a second at batch 1, at the best batch size, and over No CoT on the same weights.

    Args:
        predictor: to time; also for No CoT, unless it has a ``reference`` for that.
        examples: at their stage.
        timed: questions to time one at a time.
        seconds: the most seconds of each timing.
    """
    # No CoT has no fillers: what these cost is part of the speed.
    everything = examples.at(examples.store.longest_cot)
    reference = replace(everything, filler=NO_FILLER, unknown_chain=0)
    ways = {"stage": (examples, False), "no_cot": (reference, True)}
    others = {"no_cot": getattr(predictor, "reference", predictor)}
    single = time_single_examples(predictor, ways, timed, seconds, others)
    stage, no_cot = single["stage"], single["no_cot"]
    over_no_cot = compare(stage, no_cot)
    best = find_best_batch(predictor, examples, seconds)
    return {
        **stage.summary(),
        "no_cot": no_cot.summary(),
        "speed_over_no_cot": over_no_cot.speed,
        "speed_over_no_cot_low": over_no_cot.low,
        "speed_over_no_cot_high": over_no_cot.high,
        "same_as_no_cot": over_no_cot.same and examples.filler == NO_FILLER,
        "best_batch_size": None if best is None else best[0],
        "best_batch_examples_per_second": None if best is None else best[1],
    }
