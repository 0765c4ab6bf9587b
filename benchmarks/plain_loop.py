"""The plain way that icot.benchmark measures against: library calls, no thought of speed.

Validation as a first version would write it: every example decoded by the library's ``generate``,
32 at a time, greedily, until each row has written two separators.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

BATCH_SIZE = 32
END_SEPARATORS = 2


class TwoSeparators(StoppingCriteria):
    """A row has ended once it has two separators behind its prompt."""

    def __init__(self, prompt_width: int, eos_token_id: int) -> None:
        self.prompt_width, self.eos_token_id = prompt_width, eos_token_id

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Which rows [B] have ended."""
        new = input_ids[:, self.prompt_width :]
        return (new == self.eos_token_id).sum(1) >= END_SEPARATORS


@torch.no_grad()
def generate(
    model: Any, prompts: Sequence[Sequence[int]], eos_token_id: int, max_new_tokens: int
) -> list[list[int]]:
    """New tokens for each prompt, up to and with its end."""
    device = next(model.parameters()).device
    outputs = []
    for start in range(0, len(prompts), BATCH_SIZE):
        batch = prompts[start : start + BATCH_SIZE]
        width = max(map(len, batch))
        rows = [[eos_token_id] * (width - len(p)) + list(p) for p in batch]
        real = [[0] * (width - len(p)) + [1] * len(p) for p in batch]
        written = model.generate(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(real, device=device),
            do_sample=False,
            use_cache=True,
            max_new_tokens=max_new_tokens,
            eos_token_id=None,
            pad_token_id=eos_token_id,
            stopping_criteria=[TwoSeparators(width, eos_token_id)],
        )
        outputs += [_to_end(row, eos_token_id) for row in written[:, width:].tolist()]
    return outputs


def _to_end(tokens: list[int], eos_token_id: int) -> list[int]:
    seen = 0
    for i, token in enumerate(tokens, start=1):
        seen += token == eos_token_id
        if seen == END_SEPARATORS:
            return tokens[:i]
    return tokens
