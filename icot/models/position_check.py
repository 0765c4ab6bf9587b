"""Whether a model heeds position ids, tried out with the model itself before it is trained.

Packing and kept position ids say by position ids alone what belongs together:

    a a a a b b b b      position ids 0 1 2 3 0 1 2 3: two examples in one row
    a a a a a a a a      position ids 0 1 2 3 7 8 9 10: three tokens have been removed

Some architectures ignore that ids start anew (OPT, XGLM, BLOOM, MPT, Falcon with ALiBi, recurrent
ones), so that the second example sees the first one; some have no position ids at all.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from icot.errors import ModelError
from icot.models.forward import supervised_logits
from icot.models.introspection import config_of, device_of
from icot.models.positions import learned_positions
from icot.removal import IGNORED, CoTBatch

TOKENS = 8  # of an example that is tried out
JUMP = 16
# The most that another example's tokens may do to an example, as a share of what its own do. It is
# nothing at all or at least 0.4 (tests/models/test_position_check.py).
LEAK = 0.1


def check_packing(model: nn.Module, name: str) -> None:
    """Pass two examples in one row, and in two.

    The second example must not change with the first one's tokens, nor with its place in the row.
    How much it does is judged by what its own first token does: random or tiny weights make both
    small.

    Args:
        model: a Hugging Face causal LM, on any device; its mode is restored.
        name: of the model, for the message.

    Raises:
        ModelError: the examples of a packed row are not kept apart.
    """
    attention = str(config_of(model)._attn_implementation)
    if "flash" in attention:  # transformers reads position ids only where a batch has one row
        raise ModelError(
            f"data.packing: {attention} keeps the examples of a packed row apart only in a batch "
            "of one row. Set model.attn_implementation=sdpa, or data.packing=false."
        )
    padded = _examples(model)
    rows, columns = padded.input_ids.shape
    in_one_row = replace(
        padded,
        input_ids=padded.input_ids.view(1, -1),
        labels=padded.labels.view(1, -1),
        position_ids=torch.arange(columns, device=padded.input_ids.device).repeat(rows)[None],
        owners=torch.arange(rows, device=padded.input_ids.device).repeat_interleave(columns)[None],
    )

    def of_second(batch: CoTBatch, changed: slice = slice(0)) -> Tensor:
        """Its logits [TOKENS - 1, V], with some of the packed tokens changed."""
        tokens = batch.input_ids.clone()
        tokens[:, changed] = (tokens[:, changed] + 1) % int(config_of(model).vocab_size)
        return _logits(model, replace(batch, input_ids=tokens))[columns - 1 :]

    packed = of_second(in_one_row)
    by_first = (of_second(in_one_row, slice(columns)) - packed).abs().max()
    own = (of_second(in_one_row, slice(columns, columns + 1)) - packed).abs()
    by_place = (of_second(padded) - packed).abs().max()
    # What the first token does to the others comes by attention, as a leak does; its own logits
    # change by far more, as they would at another learned position.
    if by_first > LEAK * own[1:].max() or by_place > LEAK * own.max():
        raise ModelError(
            f"data.packing: model {name!r} ({config_of(model).model_type}, attention {attention}) "
            "does not keep the examples of a packed row apart, since it ignores position ids that "
            "start anew. Set data.packing=false."
        )


def check_kept_positions(model: nn.Module, name: str) -> None:
    """Compare a pass whose position ids jump with one whose ids do not.

    Args:
        model: a Hugging Face causal LM, on any device; its mode is restored.
        name: of the model, for the message.

    Raises:
        ModelError: the logits are the same.
    """
    batch = _examples(model)
    columns = batch.input_ids.shape[1]
    learned = learned_positions(config_of(model))
    jump = JUMP if learned is None else min(JUMP, learned - columns)
    position = torch.arange(columns, device=batch.input_ids.device).expand_as(batch.input_ids)
    jumping = position + jump * (position >= columns // 2)
    kept, counted = (
        _logits(model, replace(batch, position_ids=ids)) for ids in (jumping, position)
    )
    if jump > 0 and torch.equal(kept, counted):
        raise ModelError(
            f"schedule.keep_position_ids: model {name!r} ({config_of(model).model_type}) ignores "
            "position ids, so that keeping them changes nothing. Set "
            "schedule.keep_position_ids=false."
        )


def _examples(model: nn.Module) -> CoTBatch:
    """Two examples of random tokens; all but the first token of each are supervised."""
    config = config_of(model)
    learned = learned_positions(config)
    columns = TOKENS if learned is None else max(3, min(TOKENS, learned - 1))
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(int(config.vocab_size), (2, columns), generator=draw)
    tokens[1, 0] = (tokens[0, 0] + 1) % int(config.vocab_size)  # they differ in their first token
    tokens = tokens.to(device_of(model))
    labels = tokens.clone()
    labels[:, 0] = IGNORED
    start = torch.ones(2, dtype=torch.long, device=tokens.device)
    return CoTBatch(tokens, labels, start, start, start * columns)


@torch.no_grad()
def _logits(model: nn.Module, batch: CoTBatch) -> Tensor:
    """The logits [N, V] of the supervised tokens, without dropout."""
    training = model.training
    model.eval()
    logits, _, _ = supervised_logits(model, batch)
    model.train(training)
    return logits.float()
