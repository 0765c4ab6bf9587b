"""When accuracy counts as lost, by accuracies made up by hand."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from icot.evaluation.scoring import Evaluation
from icot.methods.icot_si.collapse_watch import CollapseWatch
from icot.schedule import Stage
from icot.training.hooks import Validated
from icot.training.rollback import CollapseError


@dataclass
class Run:
    """As much of a trainer as the watch looks at."""

    watch: CollapseWatch
    batches: int = 0

    def stage_ends(self, tokens_removed: int, accuracy: float) -> None:
        self.batches += 10
        stage = Stage(tokens_removed=tokens_removed)
        score = Evaluation(n=100, correct=round(100 * accuracy))
        validated = Validated(score, stage, self.batches, False, accuracy)
        trainer: Any = SimpleNamespace(is_global_zero=True)
        module: Any = None
        self.watch.on_validated(trainer, module, validated)  # says nothing yet
        self.watch.on_stage_end(trainer, module, stage)
        self.watch.on_validated(trainer, module, validated)  # of the same weights once more
        self.watch.on_train_epoch_end(trainer, module)


def test_it_waits_for_as_many_validations_as_it_is_told(caplog):
    run = Run(CollapseWatch(share=0.5, validations=3, stop=False))
    for removed, accuracy in enumerate([0.1, 0.9, 0.44, 0.2, 0.5, 0.44, 0.1]):
        run.stage_ends(removed, accuracy)
    assert caplog.text == ""  # twice it was back in time
    assert run.watch.good is not None
    assert run.watch.good.tokens_removed == 4
    run.stage_ends(7, 0.3)
    assert "accuracy 0.300 with 7 tokens removed, below 0.5 of the best 0.900" in caplog.text
    caplog.clear()
    run.stage_ends(8, 0.0)
    assert caplog.text == ""  # it has been said


def test_it_stops_the_run_where_it_is_told_to_and_its_state_is_kept():
    run = Run(CollapseWatch(share=0.5, validations=2, stop=True))
    run.stage_ends(0, 0.8)
    run.stage_ends(1, 0.1)
    restored = CollapseWatch(share=0.5, validations=2, stop=True)
    restored.load_state_dict(run.watch.state_dict())
    assert restored.state_dict() == run.watch.state_dict()
    run.watch = restored
    with pytest.raises(CollapseError, match="for 2 validations since 0 were removed"):
        run.stage_ends(2, 0.2)


def test_it_raises_only_once_the_stage_has_ended():
    watch = CollapseWatch(share=0.5, validations=1, stop=True)
    trainer: Any = SimpleNamespace(is_global_zero=True)
    module: Any = None
    for batches, correct in ((1, 90), (2, 1)):
        score, stage = Evaluation(n=100, correct=correct), Stage(tokens_removed=batches)
        validated = Validated(score, stage, batches, False, correct / 100)
        watch.on_validated(trainer, module, validated)
    with pytest.raises(CollapseError):
        watch.on_train_epoch_end(trainer, module)
    assert watch.header_part(trainer) == {"last_good": None}
