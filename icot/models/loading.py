"""Models by name, from a local folder, or from random weights.

Random weights need no file: the architecture's configuration class has the shape (``gpt2`` is GPT-2
small), and ``config`` changes it (``n_layer: 4``).
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from icot.errors import ModelError, first_sentence, in_one_line
from icot.models.adapters import add_lora, find_trained_whole
from icot.models.fast_layers import use_fast_layers
from icot.models.hub import hub_is_reachable
from icot.models.introspection import config_of
from icot.models.positions import extend_positions, learned_positions, positions_key

log = logging.getLogger(__name__)


def load_model(
    name_or_path: str,
    pretrained: bool,
    tokenizer: PreTrainedTokenizerBase,
    positions: int,
    config: Mapping[str, Any] | None = None,
    attn_implementation: str | None = None,
    dtype: str = "float32",
    may_grow: bool = False,
    key: str = "model.name_or_path",
) -> PreTrainedModel:
    """A causal LM whose vocabulary fits the tokenizer and whose positions fit the data.

    Args:
        name_or_path: hub name or local folder; for random weights also an architecture
            (``gpt2``, ``phi3``, ``mistral``), which needs no file.
        pretrained: load the weights; else draw them at random.
        tokenizer: sets the vocabulary of random weights; a pretrained model must cover it.
        positions: tokens of the longest sequence.
        config: changes to the model's configuration.
        attn_implementation: ``eager``, ``sdpa`` ...; None leaves it to transformers.
        dtype: of the weights.
        may_grow: the tokenizer has got a further token, for which a pretrained model may get a
            further row of its embeddings, drawn like its others.
        key: of the configuration, that names it.

    Raises:
        ModelError: it cannot be loaded or does not fit; the message says what to do.
    """
    changes = dict(config or {})
    choices = {"attn_implementation": attn_implementation, "dtype": getattr(torch, dtype)}
    if pretrained:
        model = _read_pretrained(name_or_path, changes, choices, key)
        if may_grow and len(tokenizer) == model.config.vocab_size + 1:
            model.resize_token_embeddings(len(tokenizer))
        if len(tokenizer) > model.config.vocab_size:
            raise ModelError(
                f"the tokenizer has {len(tokenizer)} tokens but model {name_or_path!r} only "
                f"{model.config.vocab_size}; use the model's own tokenizer"
                f"{' (model.tokenizer)' if key.startswith('model.') else ''}."
            )
        extend_positions(model, positions)
    else:
        shape = _architecture(name_or_path, changes)
        shape.vocab_size = len(tokenizer)
        shape.bos_token_id = shape.eos_token_id = tokenizer.eos_token_id
        shape.pad_token_id = None
        if learned_positions(shape) is not None:
            key = positions_key(shape)
            setattr(shape, key, max(positions, changes.get(key, positions)))
        model = _draw_weights(shape, choices)
    _refuse_recurrent(model)
    use_fast_layers(model)
    model.config.use_cache = False
    # Padding is on the right, where causal attention needs no mask. If a padding token were set,
    # transformers would look for it in every batch, which synchronises a GPU.
    model.config.pad_token_id = None
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.eos_token_id
    return model


def _read_pretrained(
    name_or_path: str, changes: Mapping[str, Any], choices: Mapping[str, Any], key: str
) -> PreTrainedModel:
    """A model with its weights, from a local folder or the hub."""
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            name_or_path,
            local_files_only=not hub_is_reachable(),
            trust_remote_code=False,
            **choices,
            **changes,
        )
    except TypeError as error:  # the model does not know a change
        raise ModelError(
            f"model.config is not valid for {name_or_path!r}: {in_one_line(error)}."
        ) from None
    except (OSError, ValueError, ImportError) as error:
        drawn = ", or model.pretrained=false for random weights"
        raise ModelError(
            f"model {name_or_path!r} is neither a local folder with a model nor available on "
            f"the hub ({first_sentence(error)}). Set {key} to a folder that holds it"
            f"{drawn if key.startswith('model.') else ''}."
        ) from None
    return model


def _draw_weights(shape: PreTrainedConfig, choices: Mapping[str, Any]) -> PreTrainedModel:
    """A model of this shape with random weights."""
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            shape, trust_remote_code=False, **choices
        )
    except ImportError as error:
        raise ModelError(
            f"model.attn_implementation={choices['attn_implementation']} cannot be used here: "
            f"{first_sentence(error)}."
        ) from None
    except Exception as error:  # a wrong value can raise anything
        raise ModelError(
            f"model.config is not valid for {shape.model_type}: {in_one_line(error)}."
        ) from None
    return model


def restore_model(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    attn_implementation: str | None = None,
    lora: Mapping[str, Any] | None = None,
    make: Callable[[nn.Module], nn.Module] | None = None,
) -> nn.Module:
    """A run's model in evaluation mode, with the shape in ``folder`` and the given weights.

    Args:
        folder: of the model's saved configuration.
        weights: of the model, with its adapters if there are any.
        attn_implementation: as in ``load_model``.
        lora: arguments of ``add_lora``; None for a model without adapters.
        make: makes what the weights are of from a causal LM; None is the LM itself.

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
            model = add_lora(model, **lora, trained_whole=find_trained_whole(weights))
        model = model if make is None else make(model)
        model.load_state_dict(dict(weights))
    except Exception as error:  # a damaged file can raise anything
        raise ModelError(
            f"the weights do not fit the model configuration in {folder}: {first_sentence(error)}."
        ) from None
    _refuse_recurrent(model)
    return model.eval()


def _refuse_recurrent(model: nn.Module) -> None:
    """Refuse a model without keys and values, which decoding (``icot.inference.greedy``) caches.

    Raises:
        ModelError: it has a recurrent state instead.
    """
    if getattr(model, "_is_stateful", False):
        raise ModelError(
            f"a {config_of(model).model_type} model is recurrent: it has no cache of keys and "
            "values, and icot would decode wrong answers. Choose a model with attention in every "
            "layer (gpt2, phi3, mistral, ...)."
        )


def _architecture(name_or_path: str, changes: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of an architecture, with ``changes``; warns of those without effect."""
    is_folder = (Path(name_or_path) / "config.json").is_file()
    read = AutoConfig.from_pretrained if is_folder else AutoConfig.for_model
    try:
        own: PreTrainedConfig = read(name_or_path)
    except (OSError, ValueError):
        raise ModelError(
            f"model.pretrained=false needs an architecture that transformers knows (gpt2, phi3, "
            f"mistral, ...) or a folder with a config.json; {name_or_path!r} is neither. Set "
            "model.architecture or model.name_or_path."
        ) from None
    if ignored := [key for key in changes if not hasattr(own, key)]:
        log.warning("model.config: %s does not have %s.", own.model_type, ", ".join(ignored))
    try:
        changed: PreTrainedConfig = read(name_or_path, **changes)
    except Exception as error:  # a wrong value can raise anything
        raise ModelError(
            f"model.config is not valid for {own.model_type}: {in_one_line(error)}."
        ) from None
    return changed
