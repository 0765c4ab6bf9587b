"""Which weights count as the best: validations are compared on the same examples."""

import numpy as np
import pytest
import torch

from icot.inference.predictor import GreedyPredictor, Outputs
from icot.schedule import FixedSchedule
from icot.training.callbacks.stage_checkpoint import StageCheckpoint
from icot.training.callbacks.validation_accuracy import ValidationAccuracy
from tests.training.test_curriculum import fit


class Scripted(GreedyPredictor):
    """Writes the target for the rows that each validation is told to have right."""

    right: list[set[int]]
    longest: int

    def predict(self, examples) -> Outputs:
        right = Scripted.right.pop(0)
        Scripted.longest = examples.longest_target
        _, targets = examples.prompts_and_targets
        rows = examples.rows.tolist()
        written = [t if r in right else [0] for r, t in zip(rows, targets, strict=True)]
        return Outputs(tokens=written, nll=np.zeros(len(rows)))


@pytest.mark.parametrize(
    ("at_the_end", "best_step"),
    [
        ({0, 1, 2, 3, 4}, 15),  # all of the five that every validation scores, few of all
        ({0, 1, *range(5, 20)}, 10),  # few of the five, most of all
    ],
)
def test_the_best_is_found_on_the_examples_that_every_validation_scores(
    tmp_path, mult2, symbols, at_the_end, best_step
):
    Scripted.right = [{0, 1}, {0, 1, 2}, at_the_end]
    kept = StageCheckpoint(tmp_path)
    validation = ValidationAccuracy(Scripted, examples=5)
    fit(tmp_path, mult2, symbols, FixedSchedule("all"), [validation, kept], max_epochs=3)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["icot"]["step"] == best_step
    assert kept.best_accuracy == max(3, len(at_the_end & {0, 1, 2, 3, 4})) / 5
    assert (validation.latest.n, validation.latest.correct) == (20, len(at_the_end))
    state = validation.state_dict()
    assert state["accuracy"] == len(at_the_end & {0, 1, 2, 3, 4}) / 5
    restored = ValidationAccuracy(Scripted, examples=5)
    restored.load_state_dict(state)
    assert restored.state_dict() == state


def test_validation_after_so_many_updates_and_the_best_of_a_run_that_keeps_its_chain(
    tmp_path, mult2, symbols
):
    Scripted.right = [{0}, {0, 1, 2}, {0, 1}, {0}]  # after 4, 8, 12 and all 15 updates
    kept = StageCheckpoint(tmp_path, at_any_stage=True)
    validation = ValidationAccuracy(Scripted, examples=5, every_steps=4, max_new_tokens=99)
    fit(tmp_path, mult2, symbols, FixedSchedule(0), [validation, kept], max_epochs=3)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["icot"]["step"] == 8
    assert best["icot"]["trained_at"]["tokens_removed"] == 0
    assert Scripted.right == []
    assert Scripted.longest == 99
