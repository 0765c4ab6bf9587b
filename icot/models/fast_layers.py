"""Faster activation and dropout; results differ by rounding and random numbers."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN, NewGELUActivation

SLOW_GELU, GELU = "gelu_new", "gelu_pytorch_tanh"  # one formula, in eight operations or one
LEVELS = 2**16  # values of an element's random number; four numbers are drawn as one int64


class QuickDropout(nn.Dropout):
    """Dropout with 16 random bits per element on a CPU, where torch draws a float for each.

    The probability is rounded to a multiple of 1 / 65,536, and the scale is exact for it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As ``nn.Dropout``."""
        if not self.training or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        dropped = round(self.p * LEVELS)
        if dropped in (0, LEVELS):
            return super().forward(input)
        count = input.numel()
        drawn = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        keep = drawn.view(torch.int16)[:count].view(input.shape) >= dropped - LEVELS // 2
        return (input * keep).mul_(LEVELS / (LEVELS - dropped))


def use_fast_layers(model: PreTrainedModel) -> None:
    """Replace GPT-2's activation by a single operation, and dropout by ``QuickDropout``."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, ACT2FN[GELU])
            elif type(child) is nn.Dropout and not child.inplace:
                setattr(module, name, QuickDropout(child.p).train(child.training))
    if getattr(model.config, "activation_function", None) == SLOW_GELU:
        model.config.activation_function = GELU
