"""How many tokens a row of a training batch loses at a stage that removes s.

Removal smoothing (arXiv 2405.14838, section 3): s + o, o >= 0 with P(o) proportional to
exp(-lambda o). The dial: a share of the rows loses any number below s. Neither is drawn in
evaluation, nor while the schedule is held in a warm-up.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from icot.data.views import StageView
from icot.removal import draw_dial, draw_offsets
from icot.schedule import Stage


@dataclass(frozen=True, kw_only=True)
class SmoothedView(StageView):
    """Removes what the stage says, and a random offset more in each row.

    Attributes:
        smoothing_lambda: above 0; the smaller, the more is removed early.
        seed: decides every offset, together with the row's place in the run.
        dial_share: of the rows, which lose any number of tokens below the stage's, so that one
            model learns every one of them.
    """

    smoothing_lambda: float
    seed: int
    dial_share: float = 0.0

    def draw_offsets(self, stage: Stage, positions: Tensor) -> Tensor:
        """Smoothing offsets [B], below 0 in rows of the dial; zeros in a warm-up."""
        if stage.warming_up:
            return torch.zeros_like(positions)
        offsets = draw_offsets(self.smoothing_lambda, self.seed, positions)
        if not self.dial_share:
            return offsets
        fewer = draw_dial(self.dial_share, self.seed, positions, stage.tokens_removed)
        return torch.where(fewer > 0, -fewer, offsets)
