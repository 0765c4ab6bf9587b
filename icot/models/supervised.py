"""The forward pass over what a batch supervises; knows no task and no stage."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from icot.removal import IGNORED, CoTBatch


def supervised_logits(model: Callable[..., Any], batch: CoTBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits for the supervised tokens of a batch, each predicted from all before it.

    Args:
        model: a Hugging Face causal LM.
        batch: on the model's device.

    Returns:
        Logits [N, V] for the N supervised tokens, the tokens [N], their places (row, column)
        [N, 2]; in order of rows, then columns.
    """
    supervised = batch.labels[:, 1:] != IGNORED
    before = F.pad(supervised, (0, 1))  # token t is predicted at position t - 1
    mask = None
    if batch.position_ids is not None:
        # Without a mask transformers would take a jump in the ids for a new packed sequence.
        column = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
        mask = column < batch.lengths[:, None]
    logits: Tensor = model(
        input_ids=batch.input_ids,
        attention_mask=mask,
        position_ids=batch.position_ids,
        logits_to_keep=before,
        use_cache=False,
    ).logits
    row, column = before.nonzero(as_tuple=True)
    return logits, batch.labels[row, column + 1], torch.stack([row, column + 1], dim=1)
