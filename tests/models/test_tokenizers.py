from icot.models.tokenizers import build_symbol_tokenizer, train_symbol_tokenizer


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
