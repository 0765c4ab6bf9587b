"""The trainings of ICoT-KD: (a) the student with the teacher's states, (b) the emulator, (c) both.

a and c have a causal LM's loss on the answer; b has half the squared distance to the teacher's
states, summed over layers and dimensions, its mean over rows (arXiv 2311.01460, section 3).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icot.methods.icot_kd.coupled import Coupled
from icot.methods.icot_kd.emulator import Emulated, Emulator
from icot.methods.icot_kd.mind_reading import MindReader
from icot.methods.icot_kd.states import Teacher, positions
from icot.methods.icot_kd.view import PlanWithWhole
from icot.models.forward import SupervisedTokens
from icot.removal import IGNORED, CoTBatch
from icot.training.causal_lm import CausalLM
from icot.training.module import LOSS, StepResult, TrainingModule

DISTANCE_LOSS = "train/distance"
COMPONENT_LOSS = "train/component_loss"
COMPONENT_ACCURACY = "train/component_accuracy"


class StudentLM(CausalLM):
    """A student in training; what it reads is a subclass's matter."""

    @property
    def student(self) -> MindReader:
        """The student."""
        assert isinstance(self.model, MindReader)
        return self.model

    @property
    def causal_lm(self) -> nn.Module:
        """The student's causal LM."""
        return self.student.model

    def on_fit_start(self) -> None:
        """No dropout, as published."""
        super().on_fit_start()
        self.eval()

    def step(self, batch: CoTBatch) -> StepResult:
        """The answer's loss, with the states in place."""
        with self._reading(batch):
            return super().step(batch)

    def losses(self, batch: CoTBatch) -> tuple[Tensor, Tensor]:
        """The loss of each supervised token, with the states in place."""
        with self._reading(batch):
            return super().losses(batch)

    def states(self, whole: CoTBatch, question: int) -> Tensor:
        """The states [B, L, D] that the student reads, for whole examples."""
        raise NotImplementedError

    @contextmanager
    def _reading(self, batch: CoTBatch) -> Iterator[None]:
        plan = batch.plan
        assert isinstance(plan, PlanWithWhole)
        assert plan.whole is not None
        vectors = self.student.vectors(self.states(plan.whole, plan.question))
        rows = torch.arange(len(batch.lengths), device=self.device)
        columns = batch.cot_start - 1
        if plan.layout is not None:  # several examples in a row
            rows, columns = plan.layout.row, plan.layout.column + columns
        with self.student.reading(rows, columns, vectors):
            yield


class ReadsTeacher(TrainingModule):
    """A training with a teacher's states; the arguments are those of ``TrainingModule``, and

    Args:
        teacher: whose states are read, no part of the checkpoints; None for none.
    """

    def __init__(self, *arguments: Any, teacher: Teacher | None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._teacher = [teacher]  # in a list, so that it is no part of the module

    @property
    def teacher(self) -> Teacher:
        """Whose states are read."""
        assert self._teacher[0] is not None
        return self._teacher[0]

    def on_fit_start(self) -> None:
        """Move the teacher, if there is one, to the device."""
        if self._teacher[0] is not None:
            self.teacher.model.to(self.device)
        super().on_fit_start()


class MindReadingLM(ReadsTeacher, StudentLM):
    """(a) The student, fed by a teacher."""

    def states(self, whole: CoTBatch, question: int) -> Tensor:
        """The teacher's."""
        return self.teacher.states(whole)


class CoupledLM(ReadsTeacher, StudentLM):
    """(c) Emulator and student, trained on the answer, as published alone.

    Args:
        fix_emulator: train the student only.
        teacher: needed by further losses of the emulator; no part of the checkpoints.
        distance_weight: of the distance to the teacher's states.
        component_weight, component_offset: as of ``EmulatorModule``.
    """

    def __init__(
        self,
        *arguments: Any,
        fix_emulator: bool = False,
        teacher: Teacher | None = None,
        distance_weight: float = 0.0,
        component_weight: float = 0.0,
        component_offset: int = 0,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, teacher=teacher, **named)
        self.distance_weight, self.component_weight = distance_weight, component_weight
        self.component_offset = component_offset
        self._emulated: Emulated | None = None  # of the batch in hand
        if fix_emulator:
            self.coupled.emulator.requires_grad_(False)

    @property
    def coupled(self) -> Coupled:
        """Both."""
        assert isinstance(self.model, Coupled)
        return self.model

    @property
    def student(self) -> MindReader:
        """The student."""
        return self.coupled.student

    def states(self, whole: CoTBatch, question: int) -> Tensor:
        """The emulator's, which sees the question alone."""
        found: Emulated = self.coupled.emulator(whole.input_ids[:, :question], whole.cot_start - 1)
        self._emulated = found
        return found.states

    def further_loss(self, batch: CoTBatch, found: SupervisedTokens) -> Tensor | float:
        """The weighted losses of the emulator, summed.

        A row with n supervised tokens counts n times, so the sum fits the count of supervised
        tokens by which it is divided.
        """
        emulated, self._emulated = self._emulated, None
        teacher, plan = self._teacher[0], batch.plan
        if teacher is None:
            return 0.0
        assert emulated is not None
        assert isinstance(plan, PlanWithWhole)
        assert plan.whole is not None
        row, _ = batch.of_examples(found.places)
        of_row = torch.zeros(len(batch.lengths), device=row.device)
        if self.distance_weight:
            far = distance(emulated.states, teacher.states(plan.whole))
            of_row = of_row + self.distance_weight * far
            self.log(DISTANCE_LOSS, far.detach()[row].mean(), batch_size=max(1, len(row)))
        if self.component_weight:
            gold = gold_components(plan.whole, teacher, self.component_offset)
            missed = component_losses(emulated.scores, gold)
            of_row = of_row + self.component_weight * missed
            self.log(COMPONENT_LOSS, missed.detach()[row].mean(), batch_size=max(1, len(row)))
        return of_row[row].sum()


class EmulatorModule(ReadsTeacher):
    """(b) The emulator; the arguments are those of ``TrainingModule``, and

    Args:
        teacher: whose states it learns.
        component_weight: of the loss that tells the mixture's component; then the chain's token at
            a state's column, ``component_offset`` further on, is the right one.
    """

    model: Emulator

    def __init__(
        self,
        *arguments: Any,
        teacher: Teacher,
        component_weight: float = 0.0,
        component_offset: int = 0,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, teacher=teacher, **named)
        self.component_weight, self.component_offset = component_weight, component_offset

    def on_fit_start(self) -> None:
        """No dropout, as published."""
        super().on_fit_start()
        self.eval()

    def step(self, batch: CoTBatch) -> StepResult:
        """The loss summed over rows."""
        of_row, trained, component = self._losses(batch)
        count = int(trained.sum())
        found = {LOSS: of_row.detach().sum() / count}
        if component is not None:
            found |= component
        self.log_dict(found, batch_size=max(1, count))
        return StepResult(of_row.sum(), count)

    def losses(self, batch: CoTBatch) -> tuple[Tensor, Tensor]:
        """The loss of each row."""
        of_row, trained, _ = self._losses(batch)
        rows = torch.arange(len(trained), device=trained.device)
        return of_row[trained], rows[trained]

    def _losses(self, batch: CoTBatch) -> tuple[Tensor, Tensor, dict[str, Tensor] | None]:
        plan = batch.plan
        assert isinstance(plan, PlanWithWhole)
        assert plan.whole is not None
        whole = plan.whole
        trained = (whole.labels != IGNORED).any(1)
        gold = self.components(whole) if self.component_weight else None
        emulated: Emulated = self.model(
            whole.input_ids[:, : plan.question], whole.cot_start - 1, gold=gold
        )
        of_row = distance(emulated.states, self.teacher.states(whole)) * trained
        if gold is None:
            return of_row, trained, None
        component = component_losses(emulated.scores, gold) * trained
        right = (emulated.scores.argmax(-1) == gold).float().mean(1) * trained
        count = trained.sum().clamp(min=1)
        measured = {
            COMPONENT_LOSS: component.detach().sum() / count,
            COMPONENT_ACCURACY: right.sum() / count,
        }
        return of_row + self.component_weight * component, trained, measured

    def components(self, whole: CoTBatch) -> Tensor:
        """The right components [B, L] of whole examples."""
        return gold_components(whole, self.teacher, self.component_offset)


def gold_components(whole: CoTBatch, teacher: Teacher, offset: int) -> Tensor:
    """The tokens [B, L] at the teacher's columns, by the offset further, at most at s."""
    columns = positions(whole.cot_start - 1, whole.cot_end, teacher.depth, teacher.delta)
    columns = torch.minimum(columns + offset, whole.cot_end[:, None])
    return whole.input_ids.gather(1, columns.clamp(min=0))


def component_losses(scores: Tensor, gold: Tensor) -> Tensor:
    """The cross-entropy [B] of components [B, L] by their scores [B, L, M], summed over layers."""
    losses = F.cross_entropy(scores.float().flatten(0, 1), gold.flatten(), reduction="none")
    return losses.view_as(gold).sum(1)


def distance(states: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance [B] between states [B, L, D], summed over layers."""
    return 0.5 * (states.float() - targets.float()).square().sum((1, 2))
