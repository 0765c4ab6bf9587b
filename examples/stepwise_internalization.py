"""Stepwise internalization in one file, for reading first: from a chain of thought to none.

A small GPT-2 from random weights learns to multiply two-digit numbers with its chain of thought
written out. Then the chain loses one token from the left at a time, until the model answers at once
(Deng, Choi, Shieber 2024, arXiv 2405.14838, section 3).

    python examples/stepwise_internalization.py
"""

import random

import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

SYMBOLS = ["<eos>", "####", "*", "+", *"0123456789"]
EOS, MARK = 0, 1  # <eos> separates and ends: question <eos> chain <eos> #### answer <eos>
EPOCHS_BEFORE, EPOCHS_EACH, EPOCHS_AFTER = 8, 1, 8  # a removal follows each of the EACH
SMOOTHING = 4.0  # lambda
BATCH_SIZE, LEARNING_RATE = 32, 2e-3


def digits(number, count):
    """The digits of a number, least significant first, as the paper writes them."""
    return list(reversed(f"{number:0{count}d}"))


def example(a, b):
    """The tokens of ``a`` times ``b``, and where its chain begins and ends.

    12 * 19 has the chain 108 + 0120, the products with 9 and 10, and the answer 0228:
    2 1 * 9 1 <eos> 8 0 1 + 0 2 1 0 <eos> #### 8 2 2 0 <eos>
    """
    question = [*digits(a, 2), "*", *digits(b, 2)]
    chain = [*digits(a * (b % 10), 3), "+", "0", *digits(a * (b // 10), 3)]
    text = [*question, "<eos>", *chain, "<eos>", "####", *digits(a * b, 4), "<eos>"]
    start = len(question) + 1
    return [SYMBOLS.index(symbol) for symbol in text], start, start + len(chain)


def remove(row, count):
    """The tokens of an example without the first ``count`` of its chain."""
    tokens, start, end = row
    return tokens[:start] + tokens[min(start + count, end) :]


def loss_of(model, rows, counts):
    """The mean loss of all tokens behind the questions, ``counts`` removed from each chain."""
    short = [remove(row, count) for row, count in zip(rows, counts, strict=True)]
    inputs = torch.full((len(rows), max(map(len, short))), EOS)
    labels = torch.full_like(inputs, -100)  # which cross_entropy leaves out
    for i, (tokens, (_, start, _)) in enumerate(zip(short, rows, strict=True)):
        inputs[i, : len(tokens)] = torch.tensor(tokens)
        labels[i, start : len(tokens)] = torch.tensor(tokens[start:])
    logits = model(inputs).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def smoothing_offset():
    """How many more tokens a row loses: k with a probability proportional to exp(-lambda k)."""
    return int(random.expovariate(SMOOTHING))


@torch.no_grad()
def accuracy(model, rows, removed):
    """The share of ``rows`` whose answer is right when the model writes greedily."""
    written = torch.tensor([tokens[:start] for tokens, start, _ in rows])
    for _ in range(len(rows[0][0]) - rows[0][1] - removed):  # all rows are equally long
        written = torch.cat([written, model(written).logits[:, -1:].argmax(-1)], dim=1)
    right = 0
    for (tokens, _, end), output in zip(rows, written.tolist(), strict=True):
        answer = tokens[end + 1 :]  # the mark, four digits, <eos>
        begin = output.index(MARK) if MARK in output else 0
        right += output[begin : begin + len(answer)] == answer
    return right / len(rows)


def main(numbers=range(10, 100)):
    """Train with the chain, remove it token by token, train without it."""
    random.seed(0)
    torch.manual_seed(0)
    rows = [example(a, b) for a in numbers for b in numbers]
    random.shuffle(rows)
    held_out, training = rows[: len(rows) // 16], rows[len(rows) // 16 :]
    size = {"n_layer": 3, "n_embd": 96, "n_head": 4, "n_positions": 32}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    quick = {"activation_function": "relu", "attn_implementation": "eager"}  # on a CPU
    ids = {"vocab_size": len(SYMBOLS), "bos_token_id": EOS, "eos_token_id": EOS}
    model = GPT2LMHeadModel(GPT2Config(**ids, **size, **dropout, **quick))
    longest = max(end - start for _, start, end in rows)
    stages = [0] * EPOCHS_BEFORE + [s for s in range(1, longest) for _ in range(EPOCHS_EACH)]
    stages += [longest] * EPOCHS_AFTER
    for epoch, removed in enumerate(stages):
        if epoch == 0 or removed > stages[epoch - 1]:  # a new task, so forget the moments
            optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        random.shuffle(training)
        for i in range(0, len(training), BATCH_SIZE):
            batch = training[i : i + BATCH_SIZE]
            loss = loss_of(model, batch, [removed + smoothing_offset() for _ in batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        right = accuracy(model, held_out, removed)
        print(f"epoch {epoch}: {removed} of {longest} removed, {loss:.3f}, {right:.3f} right")


if __name__ == "__main__":
    main()
