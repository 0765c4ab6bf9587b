"""Several examples in one row, for batches whose examples differ in length.

    a a a a a a a a            a a a a a a a a
    b b b . . . . .            b b b c c c c .
    c c c c . . . .     ->     position ids 0 1 2 0 1 2 3; no token sees another example's

The update equals that of the padded batch, except for rounding. Pure functions of tensors.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from icot.removal import IGNORED, CoTBatch


@dataclass(frozen=True)
class Layout:
    """The positions of B examples in a packed batch.

    Attributes:
        shape: rows and columns of the packed batch.
        source: [N] each token's index in the flattened padded batch.
        target: [N] its index in the flattened packed batch.
        example: [N] its example.
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
    """Lay out rows as long as the longest example, each filled with the longest that still fit.

    Args:
        lengths: [B] of the examples, on the host.
        columns: of the padded batch.
    """
    width = int(lengths.max())
    free: list[int] = []  # columns left in each row
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
    """Move the examples of a padded batch [B, T] into the rows [R, W] of a layout.

    Fields with one value per example keep their order; ``owners`` has the example of each token.
    """
    device = batch.input_ids.device
    source, target, example, position = (
        t.to(device) for t in (plan.source, plan.target, plan.example, plan.position)
    )

    def scatter(values: Tensor, rest: int) -> Tensor:
        rows, columns = plan.shape
        flat = torch.full((rows * columns,), rest, device=device, dtype=values.dtype)
        return flat.scatter_(0, target, values).view(rows, columns)

    return replace(
        batch,
        input_ids=scatter(batch.input_ids.flatten()[source], pad_token_id),
        labels=scatter(batch.labels.flatten()[source], IGNORED),
        position_ids=scatter(position, 0),
        owners=scatter(example, 0),
    )


def locate_supervised_tokens(
    batch: CoTBatch,
    left: Tensor,
    plan: Layout | None,
    fillers: Tensor | None = None,
    first_filler: bool = False,
) -> Tensor:
    """Row and column [N, 2] of the supervised tokens after removal.

    Args:
        batch: padded, [B, T], on the host.
        left: [B] tokens of each example after removal, its fillers with them.
        plan: the layout if rows are packed.
        fillers: [B] fillers of each example; None for none.
        first_filler: the first one of each example is supervised, too.
    """
    trained = (batch.labels != IGNORED).any(1)
    start = batch.cot_start if fillers is None else batch.cot_start + fillers
    counts = (left - start) * trained
    example = torch.repeat_interleave(counts)
    position = torch.arange(len(example)) - (counts.cumsum(0) - counts - start)[example]
    if fillers is not None and first_filler:
        filled = (trained & (fillers > 0)).nonzero()[:, 0]
        example = torch.cat([example, filled])
        position = torch.cat([position, batch.cot_start[filled]])
    if plan is None:
        return torch.stack([example, position], dim=1)
    return torch.stack([plan.row[example], plan.column[example] + position], dim=1)
