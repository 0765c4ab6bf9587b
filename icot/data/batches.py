"""Collating whole examples into a ``CoTBatch``.

x x x | z z z z | y y . . .      '|' separators, '.' padding on the right;
x x | z z z z z z | y y y y      labels start after the first separator
"""

import numpy as np
import torch
from numpy.typing import NDArray

from icot.data.tokenized import TokenizedSplit
from icot.removal import IGNORED, CoTBatch


def collate(split: TokenizedSplit, rows: NDArray[np.int64], pad_token_id: int) -> CoTBatch:
    """The examples ``rows`` [B], padded to the longest of them.

    Without rows, returns a batch of one unsupervised row: a rank whose share of the last batch is
    empty must still take part in the step.
    """
    if len(rows) == 0:
        whole = collate(split, np.zeros(1, dtype=np.int64), pad_token_id)
        return CoTBatch(
            whole.input_ids,
            torch.full_like(whole.labels, IGNORED),
            whole.cot_start,
            whole.cot_end,
            whole.lengths,
        )
    start = split.offsets[rows]
    lengths = split.offsets[rows + 1] - start
    column = np.arange(lengths.max())[None]  # [1, T]
    inside = column < lengths[:, None]
    tokens = split.tokens[np.where(inside, start[:, None] + column, 0)].astype(np.int64)
    input_ids = np.where(inside, tokens, pad_token_id)
    cot_start = split.cot_start[rows].astype(np.int64)
    labels = np.where(inside & (column >= cot_start[:, None]), input_ids, IGNORED)
    return CoTBatch(
        input_ids=torch.from_numpy(input_ids),
        labels=torch.from_numpy(labels),
        cot_start=torch.from_numpy(cot_start),
        cot_end=torch.from_numpy(split.cot_end[rows].astype(np.int64)),
        lengths=torch.from_numpy(lengths),
        examples=torch.from_numpy(rows),
    )
