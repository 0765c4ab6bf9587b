"""Small tokenizers of the shapes that pretrained models have, saved as theirs are."""

from pathlib import Path

from transformers import GPT2Tokenizer, LlamaTokenizer

SIGNS = "0123456789*+#() "


def llama_type(folder: Path, add_bos: bool = True, **special: str) -> Path:
    """Llama and Mistral: BOS is added by the post-processor in tokenizer.json."""
    special = {"bos_token": "<s>", "eos_token": "</s>", **special}
    pieces = ["<unk>", *special.values(), *SIGNS.replace(" ", "▁")]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=[], add_bos_token=add_bos, **special)
    tokenizer.save_pretrained(folder)
    return folder


def phi3_type(folder: Path) -> Path:
    """Phi-3: a Llama tokenizer that has a BOS token and does not add it."""
    return llama_type(folder, add_bos=False, eos_token="<|endoftext|>")


def opt_type(folder: Path) -> Path:
    """OPT: GPT-2's files and ``add_bos_token`` in the configuration; BOS is the separator too."""
    pieces = ["</s>", *SIGNS.replace(" ", "Ġ")]
    GPT2Tokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        add_bos_token=True,
    ).save_pretrained(folder)
    return folder


# Each shape, and what an example begins with by default.
SHAPES = {"llama": (llama_type, "<s>"), "phi3": (phi3_type, None), "opt": (opt_type, "</s>")}
