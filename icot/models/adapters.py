"""Low-rank adapters (LoRA, Hu et al. 2021), with the optional package PEFT."""

from collections.abc import Iterable, Sequence

from torch import nn

from icot.errors import ModelError, first_sentence
from icot.models.positions import lengthened_tables

WHOLE = ".modules_to_save."  # PEFT's name for what is trained besides the adapters


def add_lora(
    model: nn.Module,
    r: int,
    alpha: float,
    dropout: float,
    target_modules: list[str] | None,
    trained_whole: Sequence[str] = (),
) -> nn.Module:
    """Add low-rank adapters as the model's only trainable weights, besides lengthened positions.

    Args:
        model: a Hugging Face causal LM.
        r, alpha, dropout, target_modules: as in ``LoraConfig`` of ``icot.config.schema``.
        trained_whole: further modules by name that are trained, and saved with the adapters.

    Raises:
        ModelError: PEFT is not installed, or a target module does not exist.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise ModelError("model.lora needs the package peft: pip install 'icot[lora]'.") from None
    new = lengthened_tables(model)
    try:
        adapters = LoraConfig(
            task_type="CAUSAL_LM",
            r=r,
            lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT takes a float too
            lora_dropout=dropout,
            target_modules=target_modules,
            modules_to_save=[*new, *trained_whole] or None,
        )
        adapted: nn.Module = get_peft_model(model, adapters)
    except ValueError as error:
        raise ModelError(f"model.lora does not fit this model: {first_sentence(error)}.") from None
    return adapted


def find_trained_whole(weights: Iterable[str]) -> list[str]:
    """The modules that are trained whole beside adapters, from the names of a model's weights."""
    found = (name.partition(WHOLE)[0] for name in weights if WHOLE in name)
    return list(dict.fromkeys(name.removeprefix("base_model.model.") for name in found))
