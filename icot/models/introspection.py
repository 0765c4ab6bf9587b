"""The configuration and device of a model, with or without adapters."""

import torch
from torch import nn
from transformers import PreTrainedConfig


def config_of(model: nn.Module) -> PreTrainedConfig:
    """A Hugging Face model's configuration, also with adapters."""
    config = model.config
    assert isinstance(config, PreTrainedConfig)
    return config


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's weights."""
    return next(model.parameters()).device
