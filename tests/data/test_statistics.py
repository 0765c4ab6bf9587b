import pytest

from icot.data.statistics import token_statistics
from icot.models.tokenizers import load_tokenizer
from icot.tasks.multiplication import Multiplication

TABLE_1 = {4: (9, 46, 9), 5: (11, 74, 11), 7: (15, 148, 15), 9: (19, 246, 19)}


@pytest.mark.parametrize("digits", TABLE_1)
def test_table_1_with_the_real_tokenizer(real_data, digits):
    task = Multiplication(digits, train_size=1, valid_size=300, test_size=1)
    tokenizer = load_tokenizer(str(real_data / "gpt2-tokenizer"), task)
    (examples,) = task.chunks("valid")
    found = token_statistics(examples, tokenizer)
    assert (found.question[0], found.cot[0], found.answer[0]) == TABLE_1[digits]
