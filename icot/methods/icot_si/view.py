"""Removal smoothing (arXiv 2405.14838, section 3): a few examples lose more tokens.

Each row of each training batch removes s + o tokens, o >= 0 with P(o) proportional to
exp(-lambda o); never in evaluation, and not while the schedule is held in a warm-up.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from icot.data.views import StageView
from icot.removal import draw_offsets
from icot.schedule import Stage


@dataclass(frozen=True, kw_only=True)
class SmoothedView(StageView):
    """Removes what the stage says, and a random offset more in each row.

    Attributes:
        smoothing_lambda: above 0; the smaller, the more is removed early.
        seed: decides every offset, together with the row's place in the run.
    """

    smoothing_lambda: float
    seed: int

    def draw_offsets(self, stage: Stage, positions: Tensor) -> Tensor:
        """Smoothing offsets [B]; zeros in a warm-up."""
        if stage.warming_up:
            return torch.zeros_like(positions)
        return draw_offsets(self.smoothing_lambda, self.seed, positions)
