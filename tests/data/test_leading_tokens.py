"""Examples begin with BOS where the tokenizer adds it, in the data and wherever they are used."""

from itertools import pairwise

import numpy as np
import pytest

from icot.data.leading_tokens import decide_bos, leading_tokens
from icot.data.tokenized import tokenize_examples, tokenizer_fingerprint
from icot.errors import ModelError
from icot.models.tokenizers import load_tokenizer
from tests.tokenizers_with_bos import SHAPES


def spans(store, row):
    """The tokens before, in and behind a chain."""
    start = store.offsets[row]
    marks = [store.cot_start[row], store.cot_end[row], store.offsets[row + 1] - start]
    bounds = [0, *map(int, marks)]
    return [store.tokens[start + a : start + b].tolist() for a, b in pairwise(bounds)]


@pytest.mark.parametrize("add_bos", [None, True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_examples_begin_as_asked_for(tmp_path, mult2, shape, add_bos):
    make, default = SHAPES[shape]
    tokenizer = load_tokenizer(str(make(tmp_path)), mult2)
    examples = next(mult2.chunks("valid"))
    without = tokenize_examples(examples, tokenizer)
    old_fingerprint = tokenizer_fingerprint(tokenizer)
    found = tokenize_examples(examples, decide_bos(tokenizer, add_bos))
    begins = default is not None if add_bos is None else add_bos
    leading = [tokenizer.bos_token_id] if begins else []
    assert leading_tokens(tokenizer) == tuple(leading)
    for row in range(len(examples)):
        question, chain, answer = spans(without, row)
        assert spans(found, row) == [leading + question, chain, answer]
    assert found.longest == without.longest + len(leading)
    # A store without BOS is the one that earlier versions made, and is found again.
    assert (tokenizer_fingerprint(tokenizer) == old_fingerprint) == (not begins)
    assert (found.identity == without.identity) == (not begins)
    if add_bos is None:
        texts = [example.text(tokenizer.eos_token) for example in examples]
        called = tokenizer(texts)["input_ids"]
        assert found.tokens.tolist() == [token for row in called for token in row]


def test_gpt2_and_symbols_stay_as_they_are(real_data, mult2, symbols):
    examples = next(mult2.chunks("valid"))
    for tokenizer in (load_tokenizer(str(real_data / "gpt2-tokenizer"), mult2), symbols):
        before = tokenize_examples(examples, tokenizer)
        after = tokenize_examples(examples, decide_bos(tokenizer, None))
        assert np.array_equal(before.tokens, after.tokens)
        assert before.identity == after.identity


def test_bos_that_does_not_exist_cannot_be_added(symbols):
    with pytest.raises(ModelError, match=r"model\.add_bos=true: the tokenizer has no BOS"):
        decide_bos(symbols, True)
