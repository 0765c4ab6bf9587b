"""Random next tokens, keyed by the sample they belong to: no batch and no order changes a sample.

A token is drawn by inverting the distribution function at a uniform number. The numbers of a sample
are those of a generator of its own, so that it can be drawn again alone, or among others.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from icot.inference.greedy import Choose, most_probable


def next_tokens(
    temperature: float,
    top_p: float,
    keys: Sequence[tuple[int, ...]],
    most: int,
    device: torch.device,
) -> Choose:
    """How a batch chooses its next tokens.

    Args:
        temperature: divides the logits; 0 takes the most probable token.
        top_p: only the most probable tokens that together reach this share are drawn.
        keys: [B] what each row's numbers depend on: the seed, the example, the sample.
        most: tokens that a row can have.
        device: of the logits.
    """
    if temperature == 0:
        return most_probable
    numbers = [np.random.default_rng(key).random(most) for key in keys]
    uniform = torch.from_numpy(np.stack(numbers)).to(device)

    def choose(logits: Tensor, rows: Tensor, count: int) -> Tensor:
        return draw(logits.double() / temperature, uniform[rows, count - 1], top_p)

    return choose


def question_seed(seed: int, index: int) -> int:
    """The seed of a question's samples, 31 bits, which servers take too."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0]) >> 1


def draw(logits: Tensor, uniform: Tensor, top_p: float = 1.0) -> Tensor:
    """The token [B] at which each row's distribution function passes a number.

    Args:
        logits: [B, V], in 64 bits, so that rounding in another batch hardly moves a boundary.
        uniform: [B] at least 0 and below 1.
        top_p: as of ``next_tokens``.
    """
    share = logits.softmax(-1)
    if top_p < 1:
        largest, order = share.sort(stable=True, dim=-1, descending=True)
        before = largest.cumsum(-1) - largest
        share = share.masked_fill((before >= top_p).gather(-1, order.argsort(-1)), 0)
    total = share.cumsum(-1)
    token = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0]
    return token.clamp(max=logits.shape[-1] - 1)
