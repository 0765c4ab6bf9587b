"""Stepwise internalization in one file, for reading first: from a chain of thought to none.

A small GPT-2 from random weights reads 20 bits and says whether the number of ones among six of
them is odd. Which six count is written nowhere. The chain of thought, their running parity, gives
it away; the answer alone does not. The model learns with the chain written out. Then the chain
loses one token from the left at a time, until the model answers at once (Deng, Choi, Shieber 2024,
arXiv 2405.14838, section 3).

    python examples/stepwise_internalization.py
"""

import random

import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

SYMBOLS = ["<eos>", "####", "0", "1"]
EOS, MARK = 0, 1  # <eos> separates and ends: question <eos> chain <eos> #### answer <eos>
BITS, COUNTED = 20, (1, 4, 8, 11, 13, 18)
STAGES = [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6]  # tokens removed from each chain of six
STEPS, BATCH_SIZE = 200, 64  # a stage has so many batches
SMOOTHING = 4.0  # lambda
MUON_RATE, ADAMW_RATE, WARMUP, DECAY = 5e-3, 1e-3, 50, 200


def example(number):
    """The tokens of a number's bits, and where the chain begins and ends.

    With four bits of which the first, second and last count, 13 is
    1 1 0 1 <eos> 1 0 1 <eos> #### 1 <eos>
    """
    question, chain = list(f"{number:0{BITS}b}"), []
    for place in COUNTED:
        chain.append(str((int(question[place]) + int(chain[-1] if chain else 0)) % 2))
    text = [*question, "<eos>", *chain, "<eos>", "####", chain[-1], "<eos>"]
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
        answer = tokens[end + 1 :]  # the mark, the answer, <eos>
        begin = output.index(MARK) if MARK in output else 0
        right += output[begin : begin + len(answer)] == answer
    return right / len(rows)


def optimizers_of(model):
    """Muon for the hidden matrices and AdamW for the rest, new, and so without moments."""
    hidden, rest = [], []
    for name, parameter in model.named_parameters():
        (hidden if ".h." in name and parameter.ndim == 2 else rest).append(parameter)
    return [
        torch.optim.Muon(hidden, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, weight_decay=0.01),
    ]


def main(training_size=64_000, held_out_size=500):
    """Train with the chain, remove it token by token, train without it."""
    random.seed(0)
    torch.manual_seed(0)
    numbers = random.sample(range(2**BITS), training_size + held_out_size)
    rows = [example(number) for number in numbers]
    training, held_out = rows[:training_size], rows[training_size:]
    size = {"n_layer": 6, "n_embd": 64, "n_head": 4, "n_positions": 64}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    quick = {"activation_function": "relu", "attn_implementation": "eager"}  # on a CPU
    ids = {"vocab_size": len(SYMBOLS), "bos_token_id": EOS, "eos_token_id": EOS}
    model = GPT2LMHeadModel(GPT2Config(**ids, **size, **dropout, **quick))
    step, last = 0, STEPS * len(STAGES)
    for stage, removed in enumerate(STAGES):
        if stage == 0 or removed > STAGES[stage - 1]:  # a new task, so forget the moments
            optimizers = optimizers_of(model)
        for _ in range(STEPS):
            batch = random.sample(training, BATCH_SIZE)
            loss = loss_of(model, batch, [removed + smoothing_offset() for _ in batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            factor = min(1.0, (step + 1) / WARMUP, (last - step) / DECAY)
            for optimizer, rate in zip(optimizers, (MUON_RATE, ADAMW_RATE), strict=True):
                optimizer.param_groups[0]["lr"] = rate * factor
                optimizer.step()
                optimizer.zero_grad()
            step += 1
        right = accuracy(model, held_out, removed)
        print(f"step {step}: {removed} of {STAGES[-1]} removed, {loss:.3f}, {right:.3f} right")


if __name__ == "__main__":
    main()
