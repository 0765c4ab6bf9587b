"""How many tokens of the chain are removed at which batch (arXiv 2405.14838, section 3).

A schedule is a pure rule. It starts at a stage and, told of each trained batch, says at which
stage the next batch is trained:

    stage = schedule.start(longest)
    stage = schedule.after_batch(stage, batches, batches_per_epoch, longest, accuracy)  # each batch

``batches`` counts the batches that the run has done, the one just trained with them; a schedule
does not count itself. ``longest`` is the longest chain in tokens; a stage that removes that many
has removed everything. Between stages everything is integers and one average, so a stage is
stored and restored exactly.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import floor
from typing import Any, ClassVar, Literal, Self


@dataclass(frozen=True)
class Stage:
    """Where a schedule stands.

    Attributes:
        index: counts the stages from 0.
        tokens_removed: s, before offsets and before the clamp to each chain.
        batches_in_stage: batches trained at this stage.
        accuracy: moving average of the training accuracy at this stage, not yet bias-corrected.
        warming_up: the schedule is held; no offsets are drawn.
        unjudged: those of ``batches_in_stage`` that had no training accuracy.
    """

    index: int = 0
    tokens_removed: int = 0
    batches_in_stage: int = 0
    accuracy: float = 0.0
    warming_up: bool = False
    unjudged: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Self:
        """The inverse of ``state_dict``."""
        return cls(**state)

    def advance(self, tokens_removed: int, **changes: Any) -> "Stage":
        """The stage after one more batch, a new one where ``tokens_removed`` has changed."""
        grown = replace(self, batches_in_stage=self.batches_in_stage + 1, **changes)
        if tokens_removed == self.tokens_removed:
            return grown
        return replace(
            grown,
            index=self.index + 1,
            tokens_removed=tokens_removed,
            batches_in_stage=0,
            accuracy=0.0,
            unjudged=0,
        )


class Schedule(ABC):
    """What every schedule is; one of your own is a subclass.

    Attributes:
        needs_accuracy: ``after_batch`` wants to be told the training accuracy.
    """

    needs_accuracy: ClassVar[bool] = False

    def resume(self, stage: Stage, batches: int) -> Stage:
        """The stage with which a run restored after ``batches`` goes on, less after a slowdown."""
        return stage

    def is_at_the_end(self, stage: Stage, longest: int) -> bool:
        """Whether nothing is left to wait for: everything is removed."""
        return stage.tokens_removed >= longest

    @abstractmethod
    def start(self, longest: int) -> Stage:
        """The stage of the first batch."""

    @abstractmethod
    def after_batch(
        self,
        stage: Stage,
        batches: int,
        batches_per_epoch: int,
        longest: int,
        accuracy: float | None = None,
    ) -> Stage:
        """The stage of the next batch, given the stage that a batch was just trained at.

        Args:
            stage: of that batch.
            batches: trained before it, over all epochs.
            batches_per_epoch: of the run.
            longest: tokens of the longest chain.
            accuracy: of the batch, where ``needs_accuracy`` asks for it; None for a batch of which
                nothing was trained on, because all of its examples are too long.
        """


@dataclass(frozen=True)
class Slowdown:
    """A return to ``tokens_removed`` after ``batches``, from where on Delta is half of what it was.

    The answer to a collapse after a removal (arXiv 2405.14838, limitations).
    """

    batches: int
    tokens_removed: int


@dataclass(frozen=True)
class FixedSchedule(Schedule):
    """The same removal throughout: nothing (explicit CoT), everything (No CoT), or s tokens."""

    tokens_removed: int | Literal["all"] = 0

    def start(self, longest: int) -> Stage:
        """The only stage."""
        removed = longest if self.tokens_removed == "all" else min(self.tokens_removed, longest)
        return Stage(tokens_removed=removed, warming_up=True)

    def after_batch(
        self,
        stage: Stage,
        batches: int,
        batches_per_epoch: int,
        longest: int,
        accuracy: float | None = None,
    ) -> Stage:
        """The same stage."""
        return stage.advance(stage.tokens_removed)


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """Tokens go at a steady rate: s after n batches is floor(delta n / T), T batches an epoch.

    Args:
        tokens_per_epoch: delta, above 0, may be fractional.
        removal_batches: in place of delta, the batches in which the longest chain is removed.
        remove_all_beyond: once s reaches this, everything is removed.
        warmup_epochs: epochs at ``warmup_removed`` tokens before n starts to count.
        warmup_removed: the fixed removal of the warm-up, from which the schedule goes on.
        rounding: ``exact``, or ``official``: one more token every round(T / delta) batches, as in
            the published code, which drifts against the epochs.
        slowdowns: each halves delta from its batch on; in order.
    """

    tokens_per_epoch: float
    remove_all_beyond: int | None = None
    warmup_epochs: int = 0
    warmup_removed: int = 0
    rounding: Literal["exact", "official"] = "exact"
    slowdowns: tuple[Slowdown, ...] = ()
    removal_batches: int | None = None

    def resume(self, stage: Stage, batches: int) -> Stage:
        """Back to the tokens of a slowdown that begins here."""
        return _apply_slowdown(stage, batches, self.slowdowns)

    def start(self, longest: int) -> Stage:
        """Nothing removed, or the warm-up."""
        warming_up = self.warmup_epochs > 0
        return Stage(
            tokens_removed=min(self.warmup_removed, longest) if warming_up else 0,
            warming_up=warming_up,
        )

    def after_batch(
        self,
        stage: Stage,
        batches: int,
        batches_per_epoch: int,
        longest: int,
        accuracy: float | None = None,
    ) -> Stage:
        """The stage by the count of batches alone."""
        counted = batches - self.warmup_epochs * batches_per_epoch
        if counted < 0:
            return stage.advance(stage.tokens_removed)
        delta = Fraction(str(self.tokens_per_epoch))
        if self.removal_batches is not None:
            delta = Fraction(longest * batches_per_epoch, self.removal_batches)
        delta /= 2 ** len(self.slowdowns)
        before = self.warmup_removed if self.warmup_epochs else 0
        if self.slowdowns:
            counted = batches - self.slowdowns[-1].batches
            before = self.slowdowns[-1].tokens_removed
        if self.rounding == "exact":
            removed = before + floor(delta * counted / batches_per_epoch)
        else:
            removed = before + counted // max(1, round(batches_per_epoch / delta))
        removed = beyond(removed, self.remove_all_beyond, longest)
        return stage.advance(removed, warming_up=False)


@dataclass(frozen=True)
class AdaptiveSchedule(Schedule):
    """The next tokens go when the training accuracy at this stage is good enough.

    The accuracy is the share of rows whose every supervised token, by default but the first, is the
    most probable one, as an exponential moving average over the stage's batches. (The first token
    is ambiguous under smoothing, and where it is a high digit its carries are written nowhere: a
    skill that the final model does not need.) The paper names such a schedule as future work
    (section 7).

    Args:
        threshold: the accuracy at which a stage ends.
        finish_threshold: the accuracy that the last stage waits for; None does not wait.
        patience: batches after which a stage ends anyway; None waits for ever.
        min_batches: batches that a stage lasts at least.
        decay: weight of the past in the moving average.
        tokens_per_stage: tokens removed at once; ``half`` removes half of what is left of the
            longest chain, rounded up (logarithmically many stages, arXiv 2605.28600).
        stops: the numbers of removed tokens to stop at, in place of ``tokens_per_stage``; behind
            the last of them everything goes.
        remove_all_beyond: as in ``LinearSchedule``.
        slowdowns: each halves what is removed at once, down to one token.
    """

    threshold: float = 0.9
    finish_threshold: float | None = None
    patience: int | None = None
    min_batches: int = 10
    decay: float = 0.9
    tokens_per_stage: int | Literal["half"] = 1
    stops: tuple[int, ...] = ()
    remove_all_beyond: int | None = None
    slowdowns: tuple[Slowdown, ...] = ()
    needs_accuracy: ClassVar[bool] = True

    def resume(self, stage: Stage, batches: int) -> Stage:
        """Back to the tokens of a slowdown that begins here."""
        return _apply_slowdown(stage, batches, self.slowdowns)

    def is_at_the_end(self, stage: Stage, longest: int) -> bool:
        """Whether everything is removed, and learned well enough."""
        learned = self.finish_threshold is None or self._reaches(self.finish_threshold, stage)
        return super().is_at_the_end(stage, longest) and learned

    def _reaches(self, threshold: float, stage: Stage) -> bool:
        """Whether the bias-corrected average of enough batches is at least ``threshold``."""
        judged = stage.batches_in_stage - stage.unjudged
        enough = judged >= max(1, self.min_batches)
        return enough and stage.accuracy / (1 - self.decay**judged) >= threshold

    def start(self, longest: int) -> Stage:
        """Nothing removed."""
        return Stage()

    def after_batch(
        self,
        stage: Stage,
        batches: int,
        batches_per_epoch: int,
        longest: int,
        accuracy: float | None = None,
    ) -> Stage:
        """The stage by the accuracy of the batches trained at it.

        A batch without an accuracy counts for ``patience`` alone.
        """
        average, unjudged = stage.accuracy, stage.unjudged
        if accuracy is None:
            unjudged += 1
        else:
            average = self.decay * average + (1 - self.decay) * accuracy
        grown = stage.advance(stage.tokens_removed, accuracy=average, unjudged=unjudged)
        good = self._reaches(self.threshold, grown)
        spent = self.patience is not None and grown.batches_in_stage >= self.patience
        removed = stage.tokens_removed
        if good or spent:
            left = longest - removed
            further = removed + (
                -(-left // 2) if self.tokens_per_stage == "half" else self.tokens_per_stage
            )
            if self.stops:
                further = min((stop for stop in self.stops if stop > removed), default=longest)
            if self.slowdowns:
                further = removed + max(1, (further - removed) // 2 ** len(self.slowdowns))
            removed = beyond(further, self.remove_all_beyond, longest)
        return stage.advance(removed, accuracy=average, unjudged=unjudged)


def _apply_slowdown(stage: Stage, batches: int, slowdowns: tuple[Slowdown, ...]) -> Stage:
    """The stage, with the tokens of the newest slowdown where that begins at this batch."""
    if slowdowns and slowdowns[-1].batches == batches:
        return replace(stage, tokens_removed=slowdowns[-1].tokens_removed)
    return stage


def beyond(removed: int, remove_all_beyond: int | None, longest: int) -> int:
    """``removed`` clamped to the longest chain, or all of it from ``remove_all_beyond`` on."""
    if remove_all_beyond is not None and removed >= remove_all_beyond:
        return longest
    return min(removed, longest)
