"""The baseline of icot.benchmark: a simple implementation of the method with library calls.

It tokenizes line by line, and cuts and pads each row of a batch in Python. The model computes
logits of the whole vocabulary at every position, in float32. Validation decodes every example
greedily with the library's ``generate``, 32 at a time, until each row has written two separators.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from icot.data.leading_tokens import leading_tokens

BATCH_SIZE = 32
END_SEPARATORS = 2
IGNORED = -100
Rows = Sequence[tuple[list[int], list[int]]]  # ids and labels of whole examples


def tokenize_lines(
    lines: Iterable[str], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels of each line ``question||cot #### answer``."""
    eos, separator = tokenizer.eos_token, tokenizer.eos_token_id
    examples = []
    for line in lines:
        question, rest = line.strip().split("||")
        cot, answer = rest.split(" #### ")
        text = f" {question} {eos} {cot} {eos} #### {answer} {eos}"
        leading = leading_tokens(tokenizer)
        ids = [*leading, *tokenizer(text, add_special_tokens=False).input_ids]
        start = ids.index(separator, len(leading)) + 1
        examples.append((ids, [IGNORED] * start + ids[start:]))
    return examples


def pad(rows: Rows, eos_token_id: int) -> tuple[Tensor, Tensor]:
    """Ids and labels [B, T] of examples, padded on the right."""
    width = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), width), eos_token_id)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (ids, row_labels) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids)
        labels[i, : len(ids)] = torch.tensor(row_labels)
    return input_ids, labels


def separators_of(ids: Tensor, eos_token_id: int) -> Tensor:
    """Their columns in a row of tokens, whose first may be a begin token with the same id."""
    return 1 + (ids[1:] == eos_token_id).nonzero().flatten()


def remove_chain_tokens(
    input_ids: Tensor, labels: Tensor, n_removed: int, eos_token_id: int
) -> tuple[Tensor, Tensor]:
    """Remove ``n_removed`` tokens from the left of each chain in a batch [B, T]; pad again."""
    if n_removed == 0:
        return input_ids, labels
    id_rows, label_rows = [], []
    for i in range(input_ids.shape[0]):
        separators = separators_of(input_ids[i], eos_token_id)
        start, end = separators[0].item() + 1, separators[1].item()
        last = separators[2].item() + 1
        cut = min(start + n_removed, end)
        id_rows.append(torch.cat([input_ids[i, :start], input_ids[i, cut:last]]))
        label_rows.append(torch.cat([labels[i, :start], labels[i, cut:last]]))
    width = max(row.numel() for row in id_rows)
    short_ids = input_ids.new_full((len(id_rows), width), eos_token_id)
    short_labels = labels.new_full((len(id_rows), width), IGNORED)
    for i, (ids, row_labels) in enumerate(zip(id_rows, label_rows, strict=True)):
        short_ids[i, : ids.numel()] = ids
        short_labels[i, : ids.numel()] = row_labels
    return short_ids, short_labels


class PlainLoss(nn.Module):
    """A model, and the loss that it is trained by."""

    def loss(self, rows: Rows) -> Tensor:
        """The mean loss of whole examples, ids and labels each."""
        raise NotImplementedError


class PlainCausalLM(PlainLoss):
    """A causal LM, trained on what is left of the chains.

    Args:
        model: the causal LM.
        n_removed: tokens to remove from each chain.
        eos_token_id: the separator.
    """

    def __init__(self, model: nn.Module, n_removed: int, eos_token_id: int) -> None:
        super().__init__()
        self.model: Any = model
        self.n_removed, self.eos_token_id = n_removed, eos_token_id

    def loss(self, rows: Rows) -> Tensor:
        """Mean cross-entropy over supervised tokens."""
        device = next(self.parameters()).device
        input_ids, labels = (part.to(device) for part in pad(rows, self.eos_token_id))
        input_ids, labels = remove_chain_tokens(
            input_ids, labels, self.n_removed, self.eos_token_id
        )
        return mean_loss(self.model(input_ids=input_ids).logits, labels)


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over supervised tokens, of logits [B, T, V] and labels [B, T]."""
    shifted = logits[:, :-1].contiguous()
    return nn.functional.cross_entropy(
        shifted.view(-1, shifted.shape[-1]), labels[:, 1:].contiguous().view(-1)
    )


def step(model: nn.Module, optimizer: Optimizer, loss: Tensor) -> None:
    """One update by a loss."""
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


class TwoSeparators(StoppingCriteria):
    """A row ends at the second separator after its prompt."""

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
    """New tokens for each prompt, including the final separator."""
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
        outputs += [_cut_at_end(row, eos_token_id) for row in written[:, width:].tolist()]
    return outputs


def _cut_at_end(tokens: list[int], eos_token_id: int) -> list[int]:
    seen = 0
    for i, token in enumerate(tokens, start=1):
        seen += token == eos_token_id
        if seen == END_SEPARATORS:
            return tokens[:i]
    return tokens
