"""Greedy decoding of prompts of unequal length in one batch, with a key-value cache.

A prompt is a question, its separator, and the tokens of the output that are given because they are
sure to be written. Prompts are padded on the left, so that all rows write their next token in the
same column:

    . . x x |  z z | y y |        '|' separators: a row has ended at its second own one
    x x x x |  z | y y y |

Rows that have ended leave the batch once they are half of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from icot.data.staged import StagedExamples
from icot.models.introspection import config_of, device_of
from icot.models.positions import learned_positions
from icot.removal import CoTBatch, Side

END_SEPARATORS = 2  # the one after the chain, the one after the answer
NO_TOKEN = -1
GROWTH = 64  # columns that are added to a full cache at once
CACHE_BYTES = 4 * 2**30  # of the keys and values of a batch that is decoded


@dataclass(frozen=True)
class Prompts:
    """B prompts, left-padded to P columns.

    Attributes:
        ids: [B, P] token ids.
        real: [B, P] which of them are not padding.
        position_ids: [B, P] positions of the tokens.
        lengths: [B] real tokens of each prompt.
        separators: [B] own separators among the given tokens of the output.
        jump: [B] by how much kept position ids jump over the removed tokens; zeros without.
        side: the jump comes before the output (left), or before its first separator (right).
    """

    ids: Tensor
    real: Tensor
    position_ids: Tensor
    lengths: Tensor
    separators: Tensor
    jump: Tensor
    side: Side

    @classmethod
    def of(cls, batch: CoTBatch, eos_token_id: int, given: Tensor, side: Side) -> "Prompts":
        """The prompts of ``batch``, already at its stage, with ``given`` [B] tokens of each target.

        The separator also pads.
        """
        lengths = batch.cot_start + given
        width = int(lengths.max())
        column = torch.arange(width, device=batch.input_ids.device)[None]
        source = column - (width - lengths)[:, None]
        real, source = source >= 0, source.clamp(min=0)
        ids = batch.input_ids.gather(1, source).masked_fill(~real, eos_token_id)
        jump = torch.zeros_like(lengths)
        position_ids = source
        if batch.position_ids is not None:  # kept ids: the last real one tells how far they jump
            last = batch.position_ids.gather(1, batch.lengths[:, None] - 1)[:, 0]
            jump = last - (batch.lengths - 1)
            position_ids = batch.position_ids.gather(1, source)
        separators = (lengths > batch.cot_end).long()
        return cls(ids, real, position_ids, lengths, separators, jump, side)

    @classmethod
    def of_questions(
        cls, rows: list[list[int]], eos_token_id: int, jump: int, side: Side
    ) -> "Prompts":
        """The prompts of questions alone, each with its separator, on the CPU.

        Args:
            rows: at least one; their tokens.
            eos_token_id: the separator, which also pads.
            jump: by how much the position ids of what is written jump; 0 for not at all.
            side: where they jump.
        """
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max())
        ids = torch.tensor([[eos_token_id] * (width - len(row)) + row for row in rows])
        column = torch.arange(width)[None] - (width - lengths)[:, None]
        nothing = torch.zeros_like(lengths)
        real = column >= 0
        return cls(ids, real, column.clamp(min=0), lengths, nothing, nothing + jump, side)

    def to(self, device: torch.device) -> "Prompts":
        """The prompts on ``device``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if torch.is_tensor(v)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Decoded:
    """What was written for B prompts.

    Attributes:
        tokens: B lists of new tokens, each up to and with its end.
        log_probability: [B] of each list, given its prompt.
    """

    tokens: list[list[int]]
    log_probability: Tensor


def decode(
    model: nn.Module,
    examples: StagedExamples,
    index: NDArray[np.int64],
    given: NDArray[np.int64] | None = None,
    to_the_limit: bool = False,
) -> Decoded:
    """What ``model``, in evaluation mode, writes for the examples ``index`` [B], in one batch.

    Args:
        given: [B] tokens of each target that are sure to be written; they are not repeated.
        to_the_limit: write as many tokens as the longest correct output has, whatever they are.

    Returns:
        New tokens, never more than the longest correct output of the split has.
    """
    device = device_of(model)
    given = np.zeros(len(index), dtype=np.int64) if given is None else given
    in_prompt = torch.from_numpy(given).to(device)
    prompts = Prompts.of(
        examples.batch(index).to(device), examples.eos_token_id, in_prompt, examples.side
    )
    return greedy(
        model,
        prompts,
        examples.longest_target - in_prompt,
        NO_TOKEN if to_the_limit else examples.eos_token_id,
        learned_positions(config_of(model)),
    )


@torch.no_grad()
def greedy(
    model: nn.Module,
    prompts: Prompts,
    max_new_tokens: Tensor,
    eos_token_id: int,
    positions: int | None = None,
) -> Decoded:
    """The most probable continuation of each prompt, token by token.

    Args:
        model: a Hugging Face causal LM in evaluation mode.
        prompts: on the model's device.
        max_new_tokens: [B] when to give up a row, at least 1 each.
        eos_token_id: the separator; a row ends with its second one.
        positions: how many positions the model has, where it learned each; a row that has used
            them up ends there.
    """
    ids, position_ids = prompts.ids, prompts.position_ids
    padded_or_jumping = not bool(prompts.real.all()) or bool(prompts.jump.any())
    mask = prompts.real.long() if padded_or_jumping else None
    rows = torch.arange(len(ids), device=ids.device)  # whose row each one is
    lengths, jump, separators = prompts.lengths, prompts.jump, prompts.separators
    limit = max_new_tokens
    longest = int(limit.max())
    new = torch.full((len(ids), longest), eos_token_id, device=ids.device)
    ends = torch.full((len(ids),), longest, device=ids.device)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    log_probability = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
    cache = Cache(layer_class_to_replicate=GrowingLayer)
    for count in range(1, longest + 1):
        token, log_p = _next_token(model, ids, mask, position_ids, cache)
        new[rows, count - 1] = token
        log_probability[rows] += log_p.masked_fill(ended, 0)
        separators = separators + (token == eos_token_id)
        after = jump if prompts.side == "left" else jump * (separators > 0)
        position = lengths + count - 1 + after  # of the token just written
        over = (separators >= END_SEPARATORS) | (limit <= count)
        if positions is not None:
            over |= position >= positions
        ends[rows[over & ~ended]] = count
        ended = ended | over
        going = int((~ended).sum())
        if going == 0:
            break
        if 2 * going <= len(rows):
            stay = (~ended).nonzero()[:, 0]
            rows, token, position, ended = rows[stay], token[stay], position[stay], ended[stay]
            lengths, jump, limit = lengths[stay], jump[stay], limit[stay]
            separators = separators[stay]
            cache.batch_select_indices(stay)
            mask = None if mask is None else mask[stay]
        ids = token[:, None]
        position_ids = position[:, None]
        if positions is not None:
            position_ids = position_ids.clamp(max=positions - 1)  # of rows that have ended
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    tokens = [row[:end] for row, end in zip(new.tolist(), ends.tolist(), strict=True)]
    return Decoded(tokens, log_probability)


def _next_token(
    model: nn.Module,
    ids: Tensor,
    mask: Tensor | None,
    position_ids: Tensor,
    cache: Cache,
) -> tuple[Tensor, Tensor]:
    """The most probable next token of each row [B], and its log-probability [B]."""
    logits: Tensor = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    last = logits[:, -1].float()
    largest, token = last.max(-1)
    return token, largest - last.logsumexp(-1)


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer's keys and values in a buffer with room to grow.

    The library's own layer copies everything that is cached at every token.
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append [B, H, n, D] keys and values; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = [t[:, :, :0] for t in (key_states, value_states)]
            self._used = 0
        end = self._used + key_states.shape[2]
        if end > self._room[0].shape[2]:
            self._room = [_longer(t, self._used, end + GROWTH) for t in self._room]
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, self._used : end] = states
        self._used = end
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows ``indices`` alone."""
        self._room = [room[indices] for room in self._room]
        self.keys, self.values = (room[:, :, : self._used] for room in self._room)


def _longer(room: Tensor, used: int, length: int) -> Tensor:
    longer = room.new_empty(*room.shape[:2], length, room.shape[3])
    longer[:, :, :used] = room[:, :, :used]
    return longer


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off meanwhile; the mode that the model was in is restored."""
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def rows_per_cache(model: nn.Module, examples: StagedExamples) -> int:
    """How many rows' keys and values fit into ``CACHE_BYTES`` at the end of decoding."""
    longest_prompt = int(examples.lengths.max() - examples.target_lengths.min())
    return rows_that_fit(cached_bytes_per_token(model) * (longest_prompt + examples.longest_target))


def rows_that_fit(bytes_per_row: int) -> int:
    """How many rows of a cache fit into ``CACHE_BYTES``, at least one."""
    return max(1, CACHE_BYTES // max(1, bytes_per_row))


def cached_bytes_per_token(model: nn.Module) -> int:
    """Bytes of a token's keys and values in all layers."""
    config: Any = config_of(model)
    shared = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = config.hidden_size * shared // config.num_attention_heads
    return int(2 * config.num_hidden_layers * width * next(model.parameters()).element_size())


def without_end(tokens: list[int], eos_token_id: int) -> list[int]:
    """An output's own tokens: up to and without its second separator."""
    seen = 0
    for i, token in enumerate(tokens):
        seen += token == eos_token_id
        if seen == END_SEPARATORS:
            return tokens[:i]
    return tokens
