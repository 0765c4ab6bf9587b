"""Faster forms of activation and dropout; results differ by rounding and by what chance drops."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN, NewGELUActivation

SLOW_GELU, GELU = "gelu_new", "gelu_pytorch_tanh"  # one formula: eight operations, and one
LEVELS = 2**16  # of the number that decides over an element; four are drawn with one call


class QuickDropout(nn.Dropout):
    """Dropout that draws 16 bits an element on a CPU, where torch draws a float for each.

    The probability is rounded to a multiple of 1 / 65,536, and the rest is scaled accordingly.
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
    """Let GPT-2's activation be computed by one operation, and draw dropout with fewer numbers."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, ACT2FN[GELU])
            elif type(child) is nn.Dropout and not child.inplace:
                setattr(module, name, QuickDropout(child.p).train(child.training))
    if getattr(model.config, "activation_function", None) == SLOW_GELU:
        model.config.activation_function = GELU
