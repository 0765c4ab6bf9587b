"""Greedy decoding of prompts of different length in one batch, with a key-value cache.

A prompt is a question, its separator, and the output tokens that are known already. Prompts are
padded on the left, so that all rows write their next token in the same column:

    . . x x |  z z | y y |        '|' separators: a row ends at the second one that it writes
    x x x x |  z | y y y |

Once half of the rows have ended, they are removed from the batch.
"""

from collections.abc import Callable, Generator, Iterator
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
GROWTH = 64  # columns added to a full cache at once
CACHE_BYTES = 4 * 2**30  # limit for the keys and values of one batch

# From logits [B, V], the numbers [B] of the rows among the prompts, and how many tokens their
# outputs have with the next one, to that token [B].
Choose = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Prompts:
    """B prompts, left-padded to P columns.

    Attributes:
        ids: [B, P] token ids.
        real: [B, P] True for tokens that are not padding.
        position_ids: [B, P] positions of the tokens.
        lengths: [B] real tokens of each prompt.
        separators: [B] separators among the given output tokens.
        jump: [B] the jump of kept position ids over the removed tokens, else 0.
        side: the jump is before the output (left) or before its first separator (right).
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
        """Prompts of ``batch`` at its stage, with the first ``given`` [B] tokens of each target.

        The separator is also used for padding.
        """
        lengths = batch.cot_start + given
        width = int(lengths.max())
        column = torch.arange(width, device=batch.input_ids.device)[None]
        source = column - (width - lengths)[:, None]
        real, source = source >= 0, source.clamp(min=0)
        ids = batch.input_ids.gather(1, source).masked_fill(~real, eos_token_id)
        jump = torch.zeros_like(lengths)
        position_ids = source
        if batch.position_ids is not None:  # kept ids: the last one shows the jump
            last = batch.position_ids.gather(1, batch.lengths[:, None] - 1)[:, 0]
            jump = last - (batch.lengths - 1)
            position_ids = batch.position_ids.gather(1, source)
        separators = (lengths > batch.cot_end).long()
        return cls(ids, real, position_ids, lengths, separators, jump, side)

    @classmethod
    def of_questions(
        cls,
        rows: list[list[int]],
        eos_token_id: int,
        jump: int,
        side: Side,
        from_separator: bool = False,
        one_separator: bool = False,
        fillers: int = 0,
    ) -> "Prompts":
        """The prompts of questions, on the CPU.

        Args:
            rows: the tokens of each question with its separator and fillers; at least one row.
            eos_token_id: the separator, also used for padding.
            jump: the jump of the output's position ids; 0 for none.
            side: where they jump.
            from_separator: they jump at the question's separator already.
            one_separator: the question's separator is the only one before the answer.
            fillers: behind each separator.
        """
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max())
        ids = torch.tensor([[eos_token_id] * (width - len(row)) + row for row in rows])
        column = torch.arange(width)[None] - (width - lengths)[:, None]
        zeros = torch.zeros_like(lengths)
        real, position_ids = column >= 0, column.clamp(min=0)
        if from_separator:
            position_ids[:, -1 - fillers :] += jump
        seen = zeros + one_separator
        return cls(ids, real, position_ids, lengths, seen, zeros + jump, side)

    def to(self, device: torch.device) -> "Prompts":
        """The prompts on ``device``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if torch.is_tensor(v)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Decoded:
    """The output for B prompts.

    Attributes:
        tokens: B lists of new tokens, each including its final separator.
        log_probability: [B] of each list, given its prompt.
    """

    tokens: list[list[int]]
    log_probability: Tensor


def decode(
    model: nn.Module,
    examples: StagedExamples,
    index: NDArray[np.int64],
    given: NDArray[np.int64] | None = None,
    own_length: bool = False,
) -> Decoded:
    """Decode the examples ``index`` [B] with ``model``, in evaluation mode, in one batch.

    Args:
        given: [B] known output tokens of each target; the result does not include them.
        own_length: do not stop at separators; write as many tokens as each example's correct
            output has.

    Returns:
        New tokens, at most as many as the longest correct output of the split has.
    """
    device = device_of(model)
    given = np.zeros(len(index), dtype=np.int64) if given is None else given
    in_prompt = torch.from_numpy(given).to(device)
    prompts = Prompts.of(
        examples.batch(index).to(device), examples.eos_token_id, in_prompt, examples.side
    )
    longest: int | Tensor = examples.longest_target
    if own_length:
        longest = torch.from_numpy(examples.target_lengths[index]).to(device)
    return greedy(
        model,
        prompts,
        longest - in_prompt,
        NO_TOKEN if own_length else examples.eos_token_id,
        learned_positions(config_of(model)),
    )


def most_probable(logits: Tensor, rows: Tensor, count: int) -> Tensor:
    """The most probable next token [B]."""
    return logits.max(-1).indices


def greedy(
    model: nn.Module,
    prompts: Prompts,
    max_new_tokens: Tensor,
    eos_token_id: int,
    positions: int | None = None,
) -> Decoded:
    """Continue each prompt with the most probable token; arguments as of ``write_tokens``."""
    return finish(
        write_tokens(model, prompts, max_new_tokens, eos_token_id, positions, choose=most_probable)
    )


def finish(steps: Generator[Tensor, None, Decoded]) -> Decoded:
    """All that ``write_tokens`` writes, at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            decoded: Decoded = end.value
            return decoded


@torch.no_grad()
def write_tokens(
    model: nn.Module,
    prompts: Prompts,
    max_new_tokens: Tensor,
    eos_token_id: int,
    positions: int | None,
    *,
    choose: Choose,
    separators: int = END_SEPARATORS,
    is_over: Callable[[Tensor], Tensor] | None = None,
) -> Generator[Tensor, None, Decoded]:
    """Continue each prompt, one token at a time.

    Args:
        model: a Hugging Face causal LM in evaluation mode.
        prompts: on the model's device.
        max_new_tokens: [B] the most new tokens of each row, at least 1.
        eos_token_id: the separator.
        positions: the number of learned positions, None for rotary ones; a row ends when it has
            used them all.
        choose: the next token.
        separators: a row ends when it has so many.
        is_over: a further reason to end, [B] of the tokens [B, n] that the rows have written.

    Yields:
        The new tokens of the rows still in the batch.
    """
    ids, position_ids = prompts.ids, prompts.position_ids
    mask = None if bool(prompts.real.all()) else prompts.real.long()
    rows = torch.arange(len(ids), device=ids.device)  # original row of each current row
    lengths, jump, seen = prompts.lengths, prompts.jump, prompts.separators
    limit = max_new_tokens
    longest = int(limit.max())
    new = torch.full((len(ids), longest), eos_token_id, device=ids.device)
    ends = torch.full((len(ids),), longest, device=ids.device)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    log_probability = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
    cache = Cache(layer_class_to_replicate=GrowingLayer)
    logits = _read_prompts(model, prompts, mask, cache)
    for count in range(1, longest + 1):
        if count > 1:
            logits = _last_logits(model, ids, mask, position_ids, cache)
        token = choose(logits, rows, count)
        log_p = logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)
        new[rows, count - 1] = token
        yield token
        log_probability[rows] += log_p.masked_fill(ended, 0)
        seen = seen + (token == eos_token_id)
        after = jump if prompts.side == "left" else jump * (seen > 0)
        position = lengths + count - 1 + after  # of the token just written
        over = (seen >= separators) | (limit <= count)
        if is_over is not None:
            over |= is_over(new[rows, :count])
        if positions is not None:
            over |= position >= positions
        ends[rows] = ends[rows].masked_fill(over & ~ended, count)
        ended = ended | over
        going = int((~ended).sum())
        if going == 0:
            break
        if 2 * going <= len(rows):
            stay = (~ended).nonzero()[:, 0]
            rows, token, position, ended = rows[stay], token[stay], position[stay], ended[stay]
            lengths, jump, limit = lengths[stay], jump[stay], limit[stay]
            seen = seen[stay]
            cache.batch_select_indices(stay)
            mask = None if mask is None else mask[stay]
        ids = token[:, None]
        position_ids = position[:, None]
        if positions is not None:
            position_ids = position_ids.clamp(max=positions - 1)  # rows that have ended
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    tokens = [row[:end] for row, end in zip(new.tolist(), ends.tolist(), strict=True)]
    return Decoded(tokens, log_probability)


def _read_prompts(model: nn.Module, prompts: Prompts, mask: Tensor | None, cache: Cache) -> Tensor:
    """The logits [B, V] of the token behind each prompt, in 32 bits.

    Neighbouring prompts that are equal, as of the samples of a question, are read once.
    """
    ids, position_ids = prompts.ids, prompts.position_ids
    rows = torch.cat([ids, position_ids, prompts.real.long()], dim=1)
    is_new = torch.ones(len(rows), dtype=torch.bool, device=ids.device)
    is_new[1:] = (rows[1:] != rows[:-1]).any(dim=1)
    if bool(is_new.all()):
        return _last_logits(model, ids, mask, position_ids, cache)
    read = None if mask is None else mask[is_new]
    logits = _last_logits(model, ids[is_new], read, position_ids[is_new], cache)
    of_row = is_new.cumsum(0) - 1
    cache.batch_select_indices(of_row)
    return logits[of_row]


def _last_logits(
    model: nn.Module,
    ids: Tensor,
    mask: Tensor | None,
    position_ids: Tensor,
    cache: Cache,
) -> Tensor:
    """The logits [B, V] of the token behind ``ids``, in 32 bits."""
    logits: Tensor = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    return logits[:, -1].float()


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer's keys and values in a buffer with spare columns.

    The library's own layer copies the whole cache at every token.
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values [B, H, n, D]; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [t[:, :, :0] for t in (key_states, value_states)]
            self._used = 0
        end = self._used + key_states.shape[2]
        if end > self._buffers[0].shape[2]:
            self._buffers = [_lengthen(t, self._used, end + GROWTH) for t in self._buffers]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._used : end] = states
        self._used = end
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only the rows ``indices``."""
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self.keys, self.values = (buffer[:, :, : self._used] for buffer in self._buffers)


def _lengthen(buffer: Tensor, used: int, length: int) -> Tensor:
    longer = buffer.new_empty(*buffer.shape[:2], length, buffer.shape[3])
    longer[:, :, :used] = buffer[:, :, :used]
    return longer


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, without dropout; restores the previous mode at the end."""
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def rows_per_cache(model: nn.Module, examples: StagedExamples) -> int:
    """The number of rows whose keys and values fit into ``CACHE_BYTES`` at the end of decoding."""
    longest_prompt = int(examples.lengths.max() - examples.target_lengths.min())
    return rows_that_fit(cached_bytes_per_token(model) * (longest_prompt + examples.longest_target))


def rows_that_fit(bytes_per_row: int) -> int:
    """The number of cache rows that fit into ``CACHE_BYTES``, at least one."""
    return max(1, CACHE_BYTES // max(1, bytes_per_row))


def cached_bytes_per_token(model: nn.Module) -> int:
    """Bytes of one token's keys and values in all layers."""
    config: Any = config_of(model)
    shared = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = config.hidden_size * shared // config.num_attention_heads
    return int(2 * config.num_hidden_layers * width * next(model.parameters()).element_size())


def without_end(tokens: list[int], eos_token_id: int) -> list[int]:
    """The tokens of an output before its second separator."""
    seen = 0
    for i, token in enumerate(tokens):
        seen += token == eos_token_id
        if seen == END_SEPARATORS:
            return tokens[:i]
    return tokens
