"""A real model with random weights, and held-out questions whose chain is written or removed."""

import numpy as np
import torch

from icot.data.staged import StagedExamples
from icot.data.tokenized import separator_id, tokenize_examples
from icot.models.loading import load_model
from icot.models.tokenizers import build_symbol_tokenizer
from icot.probing.questions import HeldOut
from icot.tasks.multiplication import Multiplication

SHAPE = {"n_layer": 2, "n_embd": 32, "n_head": 2}


def examples_at(removed: int, size: int = 700, side="left", **settings) -> StagedExamples:
    task = Multiplication(2, train_size=10, valid_size=size - 10, test_size=10, seed=1)
    texts = [e for part in HeldOut(task).chunks("valid") for e in part]
    tokenizer = build_symbol_tokenizer(task.symbols())
    store = tokenize_examples(texts, tokenizer)
    rows = np.random.default_rng(0).permutation(len(store))
    return StagedExamples(store, rows, removed, separator_id(tokenizer), side, **settings)


def random_model():
    task = Multiplication(2, train_size=10, valid_size=10, test_size=10)
    torch.manual_seed(0)
    tokenizer = build_symbol_tokenizer(task.symbols())
    model = load_model("gpt2", False, tokenizer, 40, SHAPE, "eager")
    for parameter in model.parameters():  # wider than the library's, so that everything matters
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()
