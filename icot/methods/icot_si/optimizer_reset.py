"""Optimizer reset (arXiv 2405.14838, section 3): every removal starts with new moments.

Whenever more of the chain is removed, the optimizer's moments and step count are discarded; its
parameter groups and the learning-rate schedule stay. Once the longest chain is fully removed there
is no further stage, and so no further reset.
"""

from lightning import LightningModule, Trainer

from icot.schedule import Stage
from icot.training.hooks import RunCallback
from icot.training.module import TrainingModule


class OptimizerReset(RunCallback):
    """Clears the optimizer's state at the start of every stage but the first.

    Args:
        warmup_steps: updates over which the learning rate rises again after a reset.
    """

    def __init__(self, warmup_steps: int = 0) -> None:
        self.warmup_steps = warmup_steps

    def on_stage_start(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Discard the moments."""
        if stage.index == 0:
            return
        for optimizer in trainer.optimizers:
            optimizer.state.clear()
        if self.warmup_steps:
            assert isinstance(module, TrainingModule)
            module.restart_warmup(self.warmup_steps)
