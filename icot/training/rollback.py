"""The errors that ask ``icot.runs.recovery`` for a rollback."""

from lightning import Trainer

from icot.runs.recovery import RollbackError
from icot.training.datamodule import CoTDataModule
from icot.training.lightning_internals import batch_in_flight
from icot.training.module import NonFiniteError

MAX_NAMED = 8  # examples in a message


class CollapseError(Exception):
    """Accuracy has not recovered; the message says how low it is."""


def rollback_after_nonfinite(
    error: NonFiniteError, trainer: Trainer, data: CoTDataModule
) -> RollbackError:
    """The error after a non-finite gradient, with the batches that may be skipped."""
    stage = data.stage
    begun = batch_in_flight(trainer) % trainer.accumulate_grad_batches
    batches = tuple(range(data.batches - begun, data.batches + 1))
    which = "whose loss is not finite are" if error.by_loss else "it comes from are"
    named = [f"{n} ({data.question(n)!r})" for n in error.examples[:MAX_NAMED]]
    more = len(error.examples) - len(named)
    message = (
        f"step {trainer.global_step}, stage {stage.index} ({stage.tokens_removed} tokens removed), "
        f"batch {data.batches} of the run: {error}. The training examples {which} "
        f"{', '.join(named)}{f' and {more} more' if more else ''}. The weights have not changed."
    )
    return RollbackError("nonfinite", trainer.global_step, batches, message)


def rollback_after_collapse(error: CollapseError, trainer: Trainer) -> RollbackError:
    """The error after a collapse."""
    return RollbackError(
        "collapse", trainer.global_step, (), f"step {trainer.global_step}: {error}."
    )
