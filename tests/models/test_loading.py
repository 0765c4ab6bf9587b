import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from icot.errors import ModelError
from icot.models.loading import load_model
from icot.models.tokenizers import load_tokenizer, train_symbol_tokenizer

TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2}


def test_a_model_and_tokenizer_survive_the_ordinary_classes(tmp_path, mult2, symbols):
    model = load_model("gpt2", False, symbols, positions=40, config=TINY)
    assert (model.config.vocab_size, model.config.n_positions) == (len(symbols), 40)
    model.save_pretrained(tmp_path)
    symbols.save_pretrained(tmp_path)
    text = next(mult2.chunks("valid"))[0].text("<eos>")
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(text)["input_ids"] == symbols(text)["input_ids"]
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() == model.num_parameters()
    folder = str(tmp_path)
    tokenizer = load_tokenizer(folder, mult2)
    assert load_model(folder, True, tokenizer, positions=40).num_parameters() > 0
    assert load_model(folder, False, tokenizer, positions=40).config.n_layer == 2


@pytest.mark.parametrize("architecture", ["phi3", "mistral", "llama"])
def test_rotary_architectures_from_random_weights(symbols, architecture):
    config = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    model = load_model(architecture, False, symbols, positions=40, config=config)
    assert model.config.vocab_size == len(symbols)


@pytest.mark.parametrize(
    "load",
    [
        lambda task, tokenizer: load_tokenizer("no/such-model", task),
        lambda task, tokenizer: load_model("no/such-model", True, tokenizer, 40),
        lambda task, tokenizer: load_model("no-such-architecture", False, tokenizer, 40),
    ],
)
def test_what_cannot_be_had_says_what_to_set(mult2, symbols, load):
    with pytest.raises(ModelError, match=r"model\.\w+"):
        load(mult2, symbols)


def test_recurrent_models_are_refused(symbols):
    config = {"hidden_size": 16, "num_hidden_layers": 1}
    with pytest.raises(ModelError, match="a mamba model is recurrent"):
        load_model("mamba", False, symbols, 16, config)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path, symbols):
    load_model("gpt2", False, symbols, 16, TINY).save_pretrained(tmp_path)
    big = train_symbol_tokenizer(["some words more than the model has ever seen before"])
    with pytest.raises(ModelError, match="tokens but model"):
        load_model(str(tmp_path), True, big, 16)
