"""Models and tokenizers by name, from a local folder, or from random weights.

Random weights need no file at all: the architecture's own configuration class gives the shape
(``gpt2`` is GPT-2 small), and ``config`` changes it (``n_layer: 4``). Nothing here knows a stage.
"""

import logging
import socket
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import huggingface_hub
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Tokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from icot.errors import ModelError, first_line
from icot.models.fast_layers import quicken
from icot.models.tokenizers import closed_symbol_tokenizer, learned_symbol_tokenizer
from icot.tasks.base import Task

log = logging.getLogger(__name__)

SYMBOL = "symbol"  # the tokenizer that the program makes for the task
TEXTS_TO_LEARN_FROM = 20_000


def load_tokenizer(name_or_path: str, task: Task) -> PreTrainedTokenizerBase:
    """The tokenizer ``symbol`` made for ``task``, or one from a local folder or the hub.

    A folder may hold a saved tokenizer, or the bare ``vocab.json`` and ``merges.txt`` of GPT-2.

    Raises:
        ModelError: it cannot be had, or has no end-of-sequence token; the message says what to do.
    """
    if name_or_path == SYMBOL:
        symbols = task.symbols()
        if symbols is not None:
            return closed_symbol_tokenizer(symbols)
        return learned_symbol_tokenizer(_training_texts(task))
    folder = Path(name_or_path)
    bare = (folder / "vocab.json", folder / "merges.txt")
    try:
        tokenizer: PreTrainedTokenizerBase
        if all(f.is_file() for f in bare) and not (folder / "tokenizer_config.json").exists():
            tokenizer = GPT2Tokenizer(vocab=str(bare[0]), merges=str(bare[1]))
        else:
            tokenizer = AutoTokenizer.from_pretrained(
                name_or_path, local_files_only=not _hub_answers(), trust_remote_code=False
            )
    except Exception as error:  # the libraries raise anything at a damaged file
        raise ModelError(
            f"tokenizer {name_or_path!r} is neither a local folder with a tokenizer nor to be had "
            f"from the hub ({_reason(error)}). Set model.tokenizer to a folder that holds it, or "
            "model.tokenizer=symbol with model.pretrained=false for one made by the program."
        ) from None
    if tokenizer.eos_token is None:
        raise ModelError(f"tokenizer {name_or_path!r} has no end-of-sequence token to separate by.")
    return tokenizer


def load_model(
    name_or_path: str,
    pretrained: bool,
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
    config: Mapping[str, Any] | None = None,
    attn_implementation: str | None = None,
    dtype: str = "float32",
) -> PreTrainedModel:
    """A causal LM whose vocabulary fits the tokenizer and whose positions fit the data.

    Args:
        name_or_path: hub name or local folder; for random weights also an architecture
            (``gpt2``, ``phi3``, ``mistral``), which needs no file.
        pretrained: load the weights; else draw them at random.
        tokenizer: decides the vocabulary of random weights; a pretrained one must cover it.
        positions: the longest sequence in tokens.
        config: changes to the model's configuration.
        attn_implementation: ``eager``, ``sdpa`` ...; None leaves it to transformers.
        dtype: of the weights.

    Raises:
        ModelError: it cannot be had or does not fit; the message says what to do.
    """
    changes = dict(config or {})
    torch_dtype = getattr(torch, dtype)
    if not pretrained:
        shape = _architecture(name_or_path, changes)
        shape.vocab_size = len(tokenizer)
        shape.bos_token_id = shape.eos_token_id = tokenizer.eos_token_id
        shape.pad_token_id = None
        if learned_positions(shape) is not None:
            shape.n_positions = max(positions, changes.get("n_positions", positions))
        try:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                shape,
                attn_implementation=attn_implementation,
                dtype=torch_dtype,
                trust_remote_code=False,
            )
        except (ValueError, ImportError, AttributeError) as error:
            raise ModelError(
                f"model.config makes no {shape.model_type}: {_reason(error)}."
            ) from None
    else:
        try:
            model = AutoModelForCausalLM.from_pretrained(
                name_or_path,
                attn_implementation=attn_implementation,
                dtype=torch_dtype,
                local_files_only=not _hub_answers(),
                trust_remote_code=False,
                **changes,
            )
        except (OSError, ValueError, ImportError) as error:
            raise ModelError(
                f"model {name_or_path!r} is neither a local folder with a model nor to be had from "
                f"the hub ({_reason(error)}). Set model.name_or_path to a folder that holds it, or "
                "model.pretrained=false for random weights."
            ) from None
        if len(tokenizer) > model.config.vocab_size:
            raise ModelError(
                f"the tokenizer has {len(tokenizer)} tokens but model {name_or_path!r} only "
                f"{model.config.vocab_size}; use the model's own tokenizer (model.tokenizer)."
            )
        extend_positions(model, positions)
    quicken(model)
    model.config.use_cache = False
    # Padding lies on the right behind causal attention and needs no mask. With a padding token set
    # here transformers would look for it in every batch, which costs a GPU a synchronisation.
    model.config.pad_token_id = None
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.eos_token_id
    return model


def restore_model(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    attn_implementation: str | None = None,
    lora: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The model of a run, in evaluation mode: its shape from ``folder``, with ``weights`` by name.

    Args:
        folder: where the run saved the model's configuration.
        weights: of the model, with its adapters where ``lora`` says what they look like.
        attn_implementation: as in ``load_model``.
        lora: arguments of ``with_lora``.

    Raises:
        ModelError: the folder has no configuration, or the weights do not fit it.
    """
    try:
        shape = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        dtype = next(iter(weights.values())).dtype
        model: nn.Module = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            shape, attn_implementation=attn_implementation, dtype=dtype, trust_remote_code=False
        )
        if lora is not None:
            model = with_lora(model, **lora)
        model.load_state_dict(dict(weights))
    except Exception as error:  # the libraries raise anything at a damaged file
        raise ModelError(
            f"the weights do not fit the model configuration in {folder}: {_reason(error)}."
        ) from None
    return model.eval()


def extend_positions(model: PreTrainedModel, positions: int) -> None:
    """Lengthen learned position embeddings to ``positions``, with a warning; the new are random.

    Rotary models compute any position and are left as they are.
    """
    available = learned_positions(model.config)
    if available is None or positions <= available:
        return
    for module, name, table in position_tables(model):
        longer = nn.Embedding(
            positions, table.embedding_dim, dtype=table.weight.dtype, device=table.weight.device
        )
        nn.init.normal_(longer.weight, std=model.config.initializer_range)
        with torch.no_grad():
            longer.weight[:available] = table.weight
        setattr(module, name, longer)
    model.config.n_positions = positions
    log.warning(
        "The longest example has %d tokens, the model %d positions: the embeddings of the other "
        "%d positions start from random values and must be learned.",
        positions,
        available,
        positions - available,
    )


def position_tables(model: nn.Module) -> list[tuple[nn.Module, str, nn.Embedding]]:
    """The learned position embeddings: the module that holds each, its name there, the table."""
    positions = learned_positions(config_of(model))
    tokens = model.get_input_embeddings()  # type: ignore[operator]
    return [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Embedding)
        and child.num_embeddings == positions
        and child is not tokens
    ]


def with_lora(
    model: nn.Module, r: int, alpha: float, dropout: float, target_modules: list[str] | None
) -> nn.Module:
    """The model with low-rank adapters (Hu et al. 2021) as its only trainable weights.

    Raises:
        ModelError: PEFT is not installed, or a target module does not exist.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise ModelError("model.lora needs the package peft: pip install 'icot[lora]'.") from None
    try:
        adapters = LoraConfig(
            task_type="CAUSAL_LM",
            r=r,
            lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT takes a float too
            lora_dropout=dropout,
            target_modules=target_modules,
        )
        adapted: nn.Module = get_peft_model(model, adapters)
    except ValueError as error:
        raise ModelError(f"model.lora does not fit this model: {_reason(error)}.") from None
    return adapted


def _architecture(name_or_path: str, changes: dict[str, Any]) -> PreTrainedConfig:
    try:
        if (Path(name_or_path) / "config.json").is_file():
            shape: PreTrainedConfig = AutoConfig.from_pretrained(
                name_or_path, trust_remote_code=False, **changes
            )
        else:
            shape = AutoConfig.for_model(name_or_path, **changes)
        return shape
    except (OSError, ValueError):
        raise ModelError(
            f"model.pretrained=false needs an architecture that transformers knows (gpt2, phi3, "
            f"mistral, ...) or a folder with a config.json; {name_or_path!r} is neither. Set "
            "model.architecture or model.name_or_path."
        ) from None


def config_of(model: nn.Module) -> PreTrainedConfig:
    """A Hugging Face model's configuration, also behind adapters."""
    config = model.config
    assert isinstance(config, PreTrainedConfig)
    return config


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device


def learned_positions(config: PreTrainedConfig) -> int | None:
    """How many positions have an embedding of their own; None for rotary models."""
    positions = getattr(config, "n_positions", None)
    return int(positions) if positions is not None else None


def _training_texts(task: Task) -> Iterator[str]:
    left = TEXTS_TO_LEARN_FROM
    for examples in task.chunks("train"):
        for example in examples[:left]:
            yield from (f" {example.question}", f" {example.cot}", f" #### {example.answer}")
        left -= len(examples)
        if left <= 0:
            return


@cache
def _hub_answers() -> bool:
    """Whether the hub's name resolves; without it every look-up would be retried for a minute."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlparse(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _reason(error: Exception) -> str:
    """The first sentence of a library's message."""
    return first_line(error).rstrip(".")
