"""What is trained on is the answer alone; the whole example stays at hand for the teacher."""

from dataclasses import dataclass, replace

from torch import Tensor

from icot.data.views import StagePlan, StageView
from icot.removal import CoTBatch
from icot.schedule import Stage


@dataclass(frozen=True, kw_only=True)
class PlanWithWhole(StagePlan):
    """A plan with the batch that it shortens.

    Attributes:
        whole: the padded batch [B, T], with its chains.
        question: tokens of the longest question with its separator, known without a GPU's waiting.
    """

    whole: CoTBatch | None = None
    question: int = 0


@dataclass(frozen=True)
class WholeView(StageView):
    """Removes what the stage says, and keeps the whole batch in the plan."""

    def plan(self, batch: CoTBatch, stage: Stage, positions: Tensor) -> CoTBatch:
        """On the host: as ``StageView.plan``."""
        planned = super().plan(batch, stage, positions)
        assert isinstance(planned.plan, StagePlan)
        question = int(planned.cot_start.max())
        return replace(planned, plan=PlanWithWhole(**vars(planned.plan), question=question))

    def apply(self, batch: CoTBatch) -> CoTBatch:
        """On the device: as ``StageView.apply``, with the batch as it came."""
        short = super().apply(batch)
        assert isinstance(short.plan, PlanWithWhole)
        return replace(short, plan=replace(short.plan, whole=replace(batch, plan=None)))
