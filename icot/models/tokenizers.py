"""Tokenizers by name, and the symbol-level tokenizers that icot makes for random weights.

A task with a closed set of symbols gets one token for each, and blanks are ignored:

    " 5 6 3 * 7 <eos>" -> "5", "6", "3", "*", "7", "<eos>"

Other text is split into words, digits and signs, each with its leading space; the most frequent
ones in the training text are the vocabulary:

    " it's 12. <eos>" -> " it", "'", "s", " 1", "2", ".", "<eos>"

Neither needs a download, and transformers saves and loads both.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GPT2Tokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from icot.errors import ModelError, first_sentence
from icot.models.hub import hub_is_reachable
from icot.tasks.base import Task

SYMBOL = "symbol"  # the name of the tokenizer that icot makes for a task
TEXTS_TO_LEARN_FROM = 20_000  # examples
EOS, UNKNOWN = "<eos>", "<unk>"
WORD_DIGIT_OR_SIGN = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+"
BLANKS_AT_THE_END = r"\s+(?!\S)"
DIGITS = [f"{space}{digit}" for space in ("", " ") for digit in range(10)]


def load_tokenizer(
    name_or_path: str, task: Task | None, key: str = "model.tokenizer"
) -> PreTrainedTokenizerBase:
    """The ``symbol`` tokenizer of ``task``, or one from a local folder or the hub.

    A folder may hold a saved tokenizer, or only the ``vocab.json`` and ``merges.txt`` of GPT-2.
    Padding and truncation that a tokenizer file has stored are switched off.

    Args:
        name_or_path: as above.
        task: of the symbols.
        key: of the configuration, that names it.

    Raises:
        ModelError: not found, or no end-of-sequence token; the message says what to do.
    """
    if name_or_path == SYMBOL:
        assert task is not None
        symbols = task.symbols()
        if symbols is not None:
            return build_symbol_tokenizer(symbols)
        return train_symbol_tokenizer(_training_texts(task))
    folder = Path(name_or_path)
    bare = (folder / "vocab.json", folder / "merges.txt")
    try:
        tokenizer: PreTrainedTokenizerBase
        if all(f.is_file() for f in bare) and not (folder / "tokenizer_config.json").exists():
            tokenizer = GPT2Tokenizer(vocab=str(bare[0]), merges=str(bare[1]))
        else:
            tokenizer = AutoTokenizer.from_pretrained(
                name_or_path, local_files_only=not hub_is_reachable(), trust_remote_code=False
            )
    except Exception as error:  # a damaged file can raise anything
        made = ", or model.tokenizer=symbol with model.pretrained=false for one that icot makes"
        raise ModelError(
            f"tokenizer {name_or_path!r} is neither a local folder with a tokenizer nor available "
            f"on the hub ({first_sentence(error)}). Set {key} to a folder that holds it"
            f"{made if key.startswith('model.') else ''}."
        ) from None
    if tokenizer.eos_token is None:
        raise ModelError(
            f"tokenizer {name_or_path!r} has no end-of-sequence token to use as the separator."
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # a tokenizer file may say both, and batched calls would heed it
        backend.no_padding()
        backend.no_truncation()
    return tokenizer


def build_symbol_tokenizer(symbols: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer for text that consists of ``symbols`` separated by blanks."""
    tokenizer = Tokenizer(models.WordLevel(_vocabulary(symbols), unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _fast(tokenizer)


def train_symbol_tokenizer(texts: Iterable[str], vocab_size: int = 8192) -> PreTrainedTokenizerFast:
    """A tokenizer over all digits and the ``vocab_size`` most frequent symbols of ``texts``."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(BLANKS_AT_THE_END), "removed"),
            pre_tokenizers.Split(Regex(WORD_DIGIT_OR_SIGN), "isolated"),
        ]
    )
    counter = Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
    counter.pre_tokenizer = split
    counter.train_from_iterator(
        texts, trainers.WordLevelTrainer(vocab_size=vocab_size, show_progress=False)
    )
    found = counter.get_vocab()
    symbols = [*DIGITS, *sorted(found, key=lambda symbol: found[symbol])]
    tokenizer = Tokenizer(models.WordLevel(_vocabulary(symbols), unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    return _fast(tokenizer)


def _training_texts(task: Task) -> Iterator[str]:
    left = TEXTS_TO_LEARN_FROM
    for examples in task.chunks("train"):
        for example in examples[:left]:
            yield from (f" {example.question}", f" {example.cot}", f" #### {example.answer}")
        left -= len(examples)
        if left <= 0:
            return


def _vocabulary(symbols: Iterable[str]) -> dict[str, int]:
    return {symbol: i for i, symbol in enumerate(dict.fromkeys([EOS, UNKNOWN, *symbols]))}


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
