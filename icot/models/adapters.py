"""Low-rank adapters (LoRA, Hu et al. 2021), with the optional package PEFT."""

from torch import nn

from icot.errors import ModelError, first_sentence


def add_lora(
    model: nn.Module, r: int, alpha: float, dropout: float, target_modules: list[str] | None
) -> nn.Module:
    """Add low-rank adapters as the model's only trainable weights.

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
        raise ModelError(f"model.lora does not fit this model: {first_sentence(error)}.") from None
    return adapted
