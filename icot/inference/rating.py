"""Log-probabilities of texts that are there already, under a teacher on this machine.

    Q: 1 + 1 \\n A:    so it is 2 #### 2    \\n\\n
    prompt            text                 its end, which counts if the text was not cut

One forward pass over prompt and text, in which nothing is written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from icot.data.tokenized import separator_id
from icot.inference.completions import Completion
from icot.inference.greedy import Prompts, evaluation_mode, rows_that_fit
from icot.inference.teachers import LocalTeacher
from icot.models.introspection import config_of, device_of
from icot.models.positions import learned_positions

BYTES = 12  # of a logit: in the model's type, in 32 bits, and exponentiated


def rate(
    teacher: LocalTeacher, prompts: Sequence[str], written: Sequence[Completion]
) -> Iterator[Completion]:
    """Completions with their log-probabilities under a teacher.

    A text is tokenized anew, so its tokens may be others than those that were written. A text may
    end in several ways, with the separator or a stopping text: the most probable one counts. A text
    that does not fit the model's positions has no log-probability.

    Args:
        teacher: whose log-probabilities are wanted.
        prompts: [n] what is continued.
        written: [n] the texts, of whatever model.
    """
    rows = teacher.tokenize(list(prompts))
    texts = [teacher.tokens_of(one) for one in written]
    positions = learned_positions(config_of(teacher.model))
    needed = [len(r) + len(t) + teacher.jump for r, t in zip(rows, texts, strict=True)]
    fitting = [i for i, n in enumerate(needed) if positions is None or n <= positions]
    longest = max(map(len, texts)) + len(teacher.ending) + 1
    size = rows_that_fit(BYTES * longest * int(config_of(teacher.model).vocab_size))
    found: dict[int, tuple[float, int]] = {}
    for start in range(0, len(fitting), size):
        part = fitting[start : start + size]
        is_cut = [written[i].truncated for i in part]
        with evaluation_mode(teacher.model):
            rated = _rate(teacher, [rows[i] for i in part], [texts[i] for i in part], is_cut)
            found |= zip(part, rated, strict=True)
    for i, one in enumerate(written):
        logprob, count = found.get(i, (None, None))
        yield replace(one, logprob=logprob, logprob_tokens=count)


def _rate(
    teacher: LocalTeacher, rows: list[list[int]], texts: list[list[int]], is_cut: list[bool]
) -> Iterator[tuple[float, int]]:
    """The log-probability of each text and its end, and of how many tokens it is the sum."""
    eos, k = separator_id(teacher.tokenizer), len(teacher.ending)
    width = max(map(len, texts)) + max(k, 1)
    ended = [[*text, *teacher.ending] for text in texts]
    new = torch.tensor([row + [eos] * (width - len(row)) for row in ended])
    token, separator = _log_probabilities(teacher, teacher.prompts(rows), new)
    for i, n in enumerate(map(len, texts)):
        ways = [(float(separator[i, n]), 1)]
        if k:
            ways.append((float(token[i, n : n + k].sum()), k))
        end, count = (0.0, 0) if is_cut[i] else max(ways)
        yield float(token[i, :n].sum()) + end, n + count


@torch.no_grad()
def _log_probabilities(
    teacher: LocalTeacher, prompts: Prompts, new: Tensor
) -> tuple[Tensor, Tensor]:
    """Of each token behind a prompt, and of a separator in its place.

    Args:
        teacher: whose they are.
        prompts: B prompts.
        new: [B, M] the tokens behind them, padded.

    Returns:
        Twice [B, M], in 64 bits on the CPU.
    """
    model, eos = teacher.model, separator_id(teacher.tokenizer)
    column = torch.arange(new.shape[1])[None]
    begun = prompts.separators[:, None] + (new == eos).cumsum(1) > 0
    jump = prompts.jump[:, None] * (begun | (prompts.side == "left"))
    behind = prompts.lengths[:, None] + column + jump
    positions = learned_positions(config_of(model))
    if positions is not None:
        behind = behind.clamp(max=positions - 1)  # those of padding
    seen = torch.cat([prompts.real, torch.ones_like(new[:, 1:], dtype=torch.bool)], dim=1)
    device = device_of(model)
    logits = model(
        input_ids=torch.cat([prompts.ids, new[:, :-1]], dim=1).to(device),
        attention_mask=None if bool(seen.all()) else seen.long().to(device),
        position_ids=torch.cat([prompts.position_ids, behind[:, :-1]], dim=1).to(device),
        use_cache=False,
        logits_to_keep=new.shape[1],
    ).logits.float()
    total = logits.logsumexp(-1)
    of_token = logits.gather(-1, new[:, :, None].to(device))[:, :, 0] - total
    return of_token.double().cpu(), (logits[:, :, eos] - total).double().cpu()
