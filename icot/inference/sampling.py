"""Random next tokens, keyed by (seed, example, sample): no batch and no order changes a sample.

A token is drawn by inverting the distribution function at a uniform number. The numbers of a sample
are those of a generator of its own, so it can be drawn again alone, or among others.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icot.inference.greedy import Choose, most_probable


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: divides the logits; 0 takes the most probable token.
        top_p: only the most probable tokens that together reach this share are drawn.
        seed: of all samples.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)

    def choose(
        self, keys: Sequence[tuple[int, int]], most: int, device: torch.device
    ) -> Choose:
        """The choice of the next tokens of a batch.

        Args:
            keys: [B] the number of the example and of the sample in each row.
            most: tokens that a row can have.
            device: of the logits.
        """
        if self.temperature == 0:
            return most_probable
        draws = [np.random.default_rng([self.seed, *key]).random(most) for key in keys]
        uniform = torch.from_numpy(np.stack(draws)).to(device)

        def choose(logits: Tensor, rows: Tensor, count: int) -> Tensor:
            return draw(logits.double() / self.temperature, uniform[rows, count - 1], self.top_p)

        return choose


def draw(logits: Tensor, uniform: Tensor, top_p: float = 1.0) -> Tensor:
    """The token [B] at which the distribution function of each row passes a number.

    Args:
        logits: [B, V], in 64 bits, so that a batch of another size gives the same token.
        uniform: [B] between 0 and 1.
        top_p: as in ``Sampling``.
    """
    share = logits.softmax(-1)
    if top_p < 1:
        largest, order = share.sort(-1, descending=True, stable=True)
        before = largest.cumsum(-1) - largest
        share = share.masked_fill((before >= top_p).gather(-1, order.argsort(-1)), 0)
    total = share.cumsum(-1)
    token = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0]
    return token.clamp(max=logits.shape[-1] - 1)
