"""What a model says of itself, bare or behind adapters."""

import torch
from torch import nn
from transformers import PreTrainedConfig


def config_of(model: nn.Module) -> PreTrainedConfig:
    """A Hugging Face model's configuration, also behind adapters."""
    config = model.config
    assert isinstance(config, PreTrainedConfig)
    return config


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device
