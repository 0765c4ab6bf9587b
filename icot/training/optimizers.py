"""Optimizers over a model's trainable parameters, and the learning-rate schedule.

The papers use AdamW. Muon (Jordan et al. 2024) orthogonalises the update of each hidden
matrix; embeddings, the output head, norms and biases stay with AdamW.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from icot.system.hardware import computes_bf16


def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Fused AdamW over all trainable parameters."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps, fused=True)


def muon(
    model: nn.Module,
    lr: float,
    adamw_lr: float,
    weight_decay: float = 0.01,
    momentum: float = 0.95,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Muon at ``lr`` for hidden matrices, AdamW at ``adamw_lr`` for the rest.

    Updates are scaled to AdamW's root mean square, so that the two rates are comparable.
    """
    hidden, rest = _hidden_matrices(model)
    native = computes_bf16("cpu" if hidden[0].device.type == "cpu" else "auto")
    return MuonWithAdamW(
        (torch.optim.Muon if native else Float32Muon)(
            hidden,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            adjust_lr_fn="match_rms_adamw",
        ),
        AdamW(rest, lr=adamw_lr, weight_decay=weight_decay, betas=betas, eps=eps, fused=True),
    )


class Float32Muon(torch.optim.Muon):
    """Muon that orthogonalises in float32, with all matrices of one shape at once.

    torch's own computes in bf16, which takes twenty times as long if the hardware emulates it.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = orthogonalise(
                    torch.stack([self._nesterov_momentum(p, group) for p in parameters]),
                    group["ns_coefficients"],
                    group["ns_steps"],
                    group["eps"],
                )
                rate = group["lr"] * 0.2 * max(shape) ** 0.5  # match_rms_adamw
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(updates.unbind()), alpha=-rate)
        return loss

    def _nesterov_momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """The gradient's moving average with Nesterov momentum."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)
        average: Tensor = state["momentum_buffer"]
        average.lerp_(parameter.grad, 1 - group["momentum"])
        return parameter.grad.lerp(average, group["momentum"])


def orthogonalise(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Matrices [n, rows, columns] with singular values moved towards 1, by Newton-Schulz steps."""
    a, b, c = coefficients
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonWithAdamW(Optimizer):
    """Two optimizers over disjoint parameters, with one state and one list of parameter groups.

    Lightning's automatic optimization, gradient scaling and a state reset then work as for any
    single optimizer.
    """

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        groups = [group for part in parts for group in part.param_groups]
        super().__init__(groups, defaults={})
        self._share()

    def _share(self) -> None:
        """Make the parts use this optimizer's groups and state."""
        start = 0
        for part in self.parts:
            end = start + len(part.param_groups)
            part.param_groups = self.param_groups[start:end]
            part.state = self.state
            start = end

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, and share it with the parts."""
        super().load_state_dict(state_dict)
        self._share()


def _hidden_matrices(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable matrices inside the blocks, and all other trainable parameters."""
    outer = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    for part in model.modules():
        head = getattr(part, "get_output_embeddings", lambda: None)()
        outer += [head.weight] if head is not None else []
        outer += [] if getattr(part, "has_blocks", True) else list(part.parameters())
    outer_ids = {id(p) for p in outer}
    trainable = [p for p in model.parameters() if p.requires_grad]
    hidden = [p for p in trainable if p.dim() == 2 and id(p) not in outer_ids]
    hidden_ids = {id(p) for p in hidden}
    return hidden, [p for p in trainable if id(p) not in hidden_ids]


def learning_rate_factor(
    step: int,
    warmup_steps: int,
    decay_steps: int,
    total_steps: int | None,
    final_factor: float = 0.0,
) -> float:
    """The factor of the learning rate at optimizer step ``step`` (from 0).

    A linear rise over ``warmup_steps``, a plateau, and, if ``total_steps`` is known, a linear fall
    to ``final_factor`` over the last ``decay_steps``.
    """
    factor = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if total_steps is not None and decay_steps:
        left = max(0, total_steps - step) / decay_steps
        factor *= min(1.0, final_factor + (1 - final_factor) * left)
    return factor
