"""Answers to questions without a known chain or answer, in batches.

    answer(model, tokenizer, ["2 1 * 3 1"], tokens_removed=8, max_new_tokens=12)
    ["#### 6 5 1 0"]

The texts equal the predictions of ``icot.evaluate`` for the same questions.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.data.fillers import filler_id
from icot.data.leading_tokens import leading_tokens
from icot.data.tokenized import detokenize, separator_id
from icot.errors import DataError
from icot.inference.greedy import (
    Prompts,
    cached_bytes_per_token,
    evaluation_mode,
    greedy,
    rows_that_fit,
    without_end,
)
from icot.models.introspection import config_of, device_of
from icot.models.positions import learned_positions
from icot.removal import KeepIds, Side


def answer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    *,
    max_new_tokens: int,
    tokens_removed: int = 0,
    side: Side = "left",
    keep_position_ids: KeepIds = False,
    separators: int = 2,
    fillers: int = 0,
    batch_size: int = 500,
) -> list[str]:
    """What the model writes for each question, decoded greedily.

    Args:
        model: a Hugging Face causal LM on its device; its mode is restored.
        tokenizer: the model's tokenizer.
        questions: as in the task's text, ``5 6 3 2 * 7 4 3 4``.
        max_new_tokens: the limit for an output that does not end. The length of the longest correct
            output, with its two separators, is enough.
        tokens_removed: at the stage that the weights were trained at, at most the chain's length.
            It only matters with ``keep_position_ids``: position ids then jump by this number, as in
            training with chains of that length.
        side: the end of the chain that was removed; the jump is before the rest of the chain
            (``left``) or after it (``right``).
        keep_position_ids: whether, and where, ids jump: ``schedule.jumping_ids`` of the run.
        separators: ``schedule.separators`` of the run; with 1 an output ends at its first one.
        fillers: filler tokens of each prompt, as in training.
        batch_size: questions decoded at once; fewer if their cache does not fit.

    Returns:
        Texts without separators, ``{rest of the chain} #### {answer}``, in the order of the
        questions.

    Raises:
        DataError: a question contains the separator, or is longer than the model's positions.
        ValueError: ``max_new_tokens`` below 1.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    eos = separator_id(tokenizer)
    rows = tokenize_questions(questions, tokenizer, fillers)
    removed = tokens_removed + (separators == 1)  # the second separator as well
    jump = removed if keep_position_ids else 0
    told = keep_position_ids == "from_separator"
    longest = max(map(len, rows), default=0)
    positions = positions_for(model, longest + jump * told)  # the separator's id is behind the jump
    size = rows_that_fit(cached_bytes_per_token(model) * (longest + max_new_tokens))
    size = min(size, batch_size)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    written: list[list[int]] = [[] for _ in rows]
    with evaluation_mode(model):
        for start in range(0, len(order), size):
            part = order[start : start + size]
            prompts = Prompts.of_questions(
                [rows[i] for i in part], eos, jump, side, told, separators == 1, fillers
            )
            limit = torch.full((len(part),), max_new_tokens)
            device = device_of(model)
            new = greedy(model, prompts.to(device), limit.to(device), eos, positions)
            for i, tokens in zip(part, new.tokens, strict=True):
                written[i] = without_end(tokens, eos)
    return detokenize(tokenizer, written)


def positions_for(model: nn.Module, needed: int) -> int | None:
    """The number of learned positions of a model; None for rotary ones.

    Raises:
        DataError: there are fewer than a prompt needs.
    """
    positions = learned_positions(config_of(model))
    if positions is not None and needed > positions:
        raise DataError(f"a question takes {needed} positions, the model has only {positions}.")
    return positions


def tokenize_questions(
    questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, fillers: int = 0
) -> list[list[int]]:
    """Tokenize each question with its separator, as at the start of an example, and fillers."""
    if not questions:
        return []
    eos, eos_token_id = str(tokenizer.eos_token), separator_id(tokenizer)
    texts = [f" {question} {eos}" for question in questions]
    rows: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    for question, row in zip(questions, rows, strict=True):
        if row.count(eos_token_id) != 1:
            raise DataError(f"a question contains the separator {eos!r}: {question[:200]!r}")
    end = [filler_id(tokenizer)] * fillers if fillers else []
    return [[*leading_tokens(tokenizer), *row, *end] for row in rows]
