"""A tiny chat model: GPT-2 from random weights, bytes as tokens, a chat template with BOS."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

BEGIN, END = "<s>", "</s>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)


def save_chat_model(folder: Path) -> PreTrainedTokenizerFast:
    """Write the model to a folder, as chat models are; returns its tokenizer.

    As with Llama's, a call of the tokenizer adds BOS, and the template writes it, too.
    """
    pieces = [BEGIN, END, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BEGIN, eos_token=END, chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    shape = GPT2Config(
        vocab_size=len(pieces),
        n_positions=1024,
        n_layer=1,
        n_embd=32,
        n_head=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(shape)
    # Random weights write one token for ever; with larger ones, texts differ by their prompts.
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)
    model.save_pretrained(folder)
    return tokenizer
