"""A symbol-level tokenizer made by the program, for models that start from random weights.

A task with a closed set of symbols has one token for each, and blanks mean nothing:

    " 5 6 3 * 7 <eos>" -> "5", "6", "3", "*", "7", "<eos>"

Other text is cut into words, digits and signs, each with its leading space, and the most frequent
ones of the training text are the vocabulary:

    " it's 12. <eos>" -> " it", "'", "s", " 1", "2", ".", "<eos>"

Both need no download, and are saved and loaded through the ordinary transformers classes.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

EOS, UNKNOWN = "<eos>", "<unk>"
WORD_DIGIT_OR_SIGN = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+"
BLANKS_AT_THE_END = r"\s+(?!\S)"
DIGITS = [f"{space}{digit}" for space in ("", " ") for digit in range(10)]


def closed_symbol_tokenizer(symbols: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer for text that is ``symbols`` with blanks between them."""
    tokenizer = Tokenizer(models.WordLevel(_numbered(symbols), unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _fast(tokenizer)


def learned_symbol_tokenizer(
    texts: Iterable[str], vocab_size: int = 8192
) -> PreTrainedTokenizerFast:
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
    tokenizer = Tokenizer(models.WordLevel(_numbered(symbols), unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    return _fast(tokenizer)


def _numbered(symbols: Iterable[str]) -> dict[str, int]:
    return {symbol: i for i, symbol in enumerate(dict.fromkeys([EOS, UNKNOWN, *symbols]))}


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
