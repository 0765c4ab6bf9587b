"""Several examples in one row, for batches whose examples differ much in length.

    a a a a a a a a            a a a a a a a a
    b b b . . . . .            b b b c c c c .
    c c c c . . . .     ->     position ids 0 1 2 0 1 2 3; no token sees another example's

The update is that of the padded batch, to rounding. Pure functions of tensors.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from icot.removal import IGNORED, CoTBatch


@dataclass(frozen=True)
class Layout:
    """Where the tokens of B examples go.

    Attributes:
        shape: rows and columns of the packed batch.
        source: [N] each token's place in the padded batch, rows end to end.
        target: [N] its place in the packed one.
        example: [N] the example it belongs to.
        position: [N] its position in the example.
        row, column: [B] where each example begins in the packed batch.
    """

    shape: tuple[int, int]
    source: Tensor
    target: Tensor
    example: Tensor
    position: Tensor
    row: Tensor
    column: Tensor


def layout(lengths: Tensor, columns: int) -> Layout:
    """Rows as long as the longest example, each filled by the longest that still fit.

    Args:
        lengths: [B] of the examples, on the host.
        columns: of the padded batch.
    """
    width = int(lengths.max())
    free: list[int] = []  # in each row
    row, column = torch.zeros_like(lengths), torch.zeros_like(lengths)
    for i in torch.argsort(lengths, descending=True, stable=True).tolist():
        length = int(lengths[i])
        at = next((r for r, left in enumerate(free) if left >= length), len(free))
        if at == len(free):
            free.append(width)
        row[i], column[i] = at, width - free[at]
        free[at] -= length
    example = torch.repeat_interleave(lengths)
    position = torch.arange(len(example)) - (lengths.cumsum(0) - lengths)[example]
    return Layout(
        shape=(len(free), width),
        source=example * columns + position,
        target=row[example] * width + column[example] + position,
        example=example,
        position=position,
        row=row,
        column=column,
    )


def pack(batch: CoTBatch, plan: Layout, pad_token_id: int) -> CoTBatch:
    """The examples of a padded batch [B, T] in the rows [R, W] of a layout.

    What there is one of for each example keeps its order; ``owners`` says whose a token is.
    """
    device = batch.input_ids.device
    source, target, example, position = (
        t.to(device) for t in (plan.source, plan.target, plan.example, plan.position)
    )

    def placed(values: Tensor, rest: int) -> Tensor:
        rows, columns = plan.shape
        flat = torch.full((rows * columns,), rest, device=device, dtype=values.dtype)
        return flat.scatter_(0, target, values).view(rows, columns)

    return replace(
        batch,
        input_ids=placed(batch.input_ids.flatten()[source], pad_token_id),
        labels=placed(batch.labels.flatten()[source], IGNORED),
        position_ids=placed(position, 0),
        owners=placed(example, 0),
    )


def locate_supervised_tokens(batch: CoTBatch, left: Tensor, plan: Layout | None) -> Tensor:
    """Row and column [N, 2] of the supervised tokens once ``left`` [B] tokens are left of each row.

    Args:
        batch: padded, [B, T], on the host.
        left: [B] tokens of each example after removal.
        plan: where the examples go if several share a row.
    """
    counts = (left - batch.cot_start) * (batch.labels != IGNORED).any(1)
    example = torch.repeat_interleave(counts)
    position = torch.arange(len(example)) - (counts.cumsum(0) - counts - batch.cot_start)[example]
    if plan is None:
        return torch.stack([example, position], dim=1)
    return torch.stack([plan.row[example], plan.column[example] + position], dim=1)
