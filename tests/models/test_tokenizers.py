import shutil

from icot.data.tokenized import tokenize_examples
from icot.models.tokenizers import (
    build_symbol_tokenizer,
    load_tokenizer,
    train_symbol_tokenizer,
)


def test_closed_symbols():
    tokenizer = build_symbol_tokenizer(["0", "1", "####"])
    tokens = tokenizer.tokenize(" 0 1 <eos> #### 2 <eos>")
    assert tokens == ["0", "1", "<eos>", "####", "<unk>", "<eos>"]


def test_learned_symbols_keep_text_whole():
    text = " it's 12.50 <<5*2=10>> #### 1050"
    tokenizer = train_symbol_tokenizer([text])
    ids = tokenizer(f"{text} <eos>")["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[:7] == [" it", "'", "s", " 1", "2", ".", "5"]
    assert tokens[-1] == "<eos>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_stored_padding_and_truncation_are_switched_off(tmp_path, mult2, symbols):
    plain = tokenize_examples(next(mult2.chunks("valid")), symbols)
    symbols.backend_tokenizer.enable_padding(length=64, pad_id=0, pad_token="<eos>")
    symbols.backend_tokenizer.enable_truncation(max_length=4)
    symbols.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    symbols.save_pretrained(tmp_path / "whole")
    shutil.copy(tmp_path / "tokenizer.json", tmp_path / "whole" / "tokenizer.json")
    loaded = load_tokenizer(str(tmp_path / "whole"), mult2)
    found = tokenize_examples(next(mult2.chunks("valid")), loaded)
    assert found.tokens.tolist() == plain.tokens.tolist()
    assert found.identity == plain.identity
