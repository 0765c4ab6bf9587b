"""BOS: the token that an example begins with, where pretraining has had one.

    question <eos> chain <eos> #### answer <eos>           GPT-2, symbols
    <s> question <eos> chain <eos> #### answer <eos>       Llama, Mistral

What the data begin with, bare questions begin with too; so a tokenizer has it told once, when it is
loaded, and everything that makes tokens asks for ``leading_tokens``.
"""

from transformers import PreTrainedTokenizerBase

from icot.errors import ModelError

LEADING = "icot_leading_tokens"  # the attribute of a tokenizer
SAMPLE = " 1 + 1"


def decide_bos(tokenizer: PreTrainedTokenizerBase, add_bos: bool | None) -> PreTrainedTokenizerBase:
    """Say whether examples begin with BOS; returns the tokenizer.

    Args:
        tokenizer: is changed.
        add_bos: ``model.add_bos``; None does what the tokenizer does when it is called.

    Raises:
        ModelError: there is no BOS token.
    """
    own = _added_when_called(tokenizer)
    if add_bos and not own:
        if tokenizer.bos_token_id is None:
            raise ModelError(
                "model.add_bos=true: the tokenizer has no BOS token. Set model.add_bos=false."
            )
        own = (int(tokenizer.bos_token_id),)
    setattr(tokenizer, LEADING, () if add_bos is False else own)
    return tokenizer


def leading_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that every example begins with; none unless ``decide_bos`` has said so."""
    found: tuple[int, ...] = getattr(tokenizer, LEADING, ())
    return found


def _added_when_called(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """What the tokenizer puts in front of a text by itself."""
    bare: list[int] = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer(SAMPLE)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return tuple(whole[:start])
    return ()
