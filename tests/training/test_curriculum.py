"""The whole loop under Lightning: stages, offsets, resets and losses at every batch.

Training set of 70, batches of 16: 5 batches an epoch, the last a remainder of 6.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer, seed_everything

from icot.data.sampler import epoch_order
from icot.data.tokenized import separator_id
from icot.data.views import StageView
from icot.inference.predictor import GreedyPredictor
from icot.methods.icot_si.optimizer_reset import OptimizerReset
from icot.methods.icot_si.view import SmoothedView
from icot.models.loading import load_model
from icot.models.tokenizers import build_symbol_tokenizer
from icot.removal import IGNORED, draw_offsets
from icot.runs.checkpoint_header import StageMark, read_header
from icot.schedule import AdaptiveSchedule, FixedSchedule, LinearSchedule
from icot.tasks.base import Example, Task
from icot.training.callbacks.clock import Clock, clock_of
from icot.training.callbacks.run_record import RunRecord
from icot.training.callbacks.stages import Stages
from icot.training.callbacks.validation_accuracy import ValidationAccuracy
from icot.training.causal_lm import CausalLM
from icot.training.datamodule import CoTDataModule
from icot.training.hooks import RunCallback, find
from icot.training.optimizers import adamw

CHAIN = 8  # symbols of a two-digit chain
SEED = 52
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


@dataclass
class Recorder(RunCallback):
    """What each batch was like."""

    removed: list[set[int]] = field(default_factory=list)
    offsets: list[list[int]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    adam_steps: list[int] = field(default_factory=list)
    stages_started: list[int] = field(default_factory=list)
    stages_ended: list[tuple[int, int]] = field(default_factory=list)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        chain = batch.cot_end - batch.cot_start
        self.removed.append(set((CHAIN - chain - batch.plan.offsets).clamp(min=-1).tolist()))
        self.offsets.append(batch.plan.offsets.tolist())
        self.sizes.append(len(batch.lengths))
        self.widths.append(batch.input_ids.shape[1])
        steps = [int(s["step"]) for s in trainer.optimizers[0].state.values()]
        self.adam_steps.append(max(steps, default=0))

    def on_stage_start(self, trainer, module, stage):
        self.stages_started.append(stage.tokens_removed)

    def on_stage_end(self, trainer, module, stage):
        self.stages_ended.append((stage.tokens_removed, clock_of(trainer).batches))


def fit(tmp_path, task, tokenizer, schedule, extra=(), workers=0, smoothed=None, **trainer: Any):
    seed_everything(3)
    view = StageView(separator_id(tokenizer))
    if smoothed is not None:
        view = SmoothedView(separator_id(tokenizer), smoothing_lambda=smoothed, seed=5)
    data = CoTDataModule(task, tokenizer, tmp_path, view, 16, seed=5, num_workers=workers)
    data.prepare_data()
    config = {"n_layer": 1, "n_embd": 16, "n_head": 2}
    model = load_model("gpt2", False, tokenizer, data.longest, config)
    module = CausalLM(model, lambda m: adamw(m, lr=1e-3))
    recorder = Recorder()
    Trainer(
        **QUIET,
        gradient_clip_val=1.0,
        callbacks=[Clock(0), recorder, *extra, Stages(schedule)],
        **trainer,
    ).fit(module, datamodule=data)
    return recorder, module, data


@pytest.mark.parametrize("workers", [0, 2])
def test_stages_over_three_epochs_by_hand(tmp_path, mult2, symbols, workers):
    schedule = LinearSchedule(tokens_per_epoch=2)
    recorder, _, _ = fit(tmp_path, mult2, symbols, schedule, workers=workers, max_epochs=3)
    by_hand = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5]
    assert recorder.removed == [{s} for s in by_hand]
    assert recorder.sizes == [16, 16, 16, 16, 6] * 3
    # 5 question, 1 separator, chain, 1 + 1 + 4 + 1 for the answer
    assert recorder.widths == [13 + CHAIN - s for s in by_hand]
    assert recorder.stages_started == [0, 1, 2, 3, 4, 5, 6]  # the last one is never trained
    assert recorder.stages_ended == [(0, 3), (1, 5), (2, 8), (3, 10), (4, 13), (5, 15)]


def test_the_optimizer_is_reset_when_more_is_removed_but_not_after_full_removal(
    tmp_path, mult2, symbols
):
    schedule = LinearSchedule(tokens_per_epoch=10)  # 0 2 4 6 8 | 8 8 8 8 8
    recorder, _, _ = fit(tmp_path, mult2, symbols, schedule, [OptimizerReset()], max_epochs=2)
    assert recorder.stages_started == [0, 2, 4, 6, 8]
    assert recorder.adam_steps == [1, 1, 1, 1, 1, 2, 3, 4, 5, 6]


def test_accumulation_leaves_no_batch_over_and_keeps_the_stages(tmp_path, mult2, symbols):
    schedule = LinearSchedule(tokens_per_epoch=2)
    recorder, module, _ = fit(
        tmp_path, mult2, symbols, schedule, max_epochs=2, accumulate_grad_batches=2
    )
    assert recorder.removed == [{s} for s in [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]]
    assert recorder.adam_steps == [0, 1, 1, 2, 3, 3, 4, 4, 5, 6]  # the fifth batch closes an epoch
    assert module.trainer.global_step == 6


def test_offsets_are_those_of_seed_and_position(tmp_path, mult2, symbols):
    recorder, _, _ = fit(tmp_path, mult2, symbols, FixedSchedule(2), smoothed=0.5, max_epochs=1)
    assert all(o == [0] * n for o, n in zip(recorder.offsets, recorder.sizes, strict=True))

    schedule = LinearSchedule(tokens_per_epoch=1, warmup_epochs=1)
    recorder, _, _ = fit(tmp_path, mult2, symbols, schedule, smoothed=0.5, max_epochs=3)
    assert all(o == [0] * n for o, n in zip(recorder.offsets[:5], recorder.sizes, strict=False))
    for n in range(5, 15):
        first = n * 16
        positions = torch.arange(first, first + recorder.sizes[n])
        assert recorder.offsets[n] == draw_offsets(0.5, 5, positions).tolist()


def test_adaptive_stages_wait_for_accuracy_or_patience(tmp_path, mult2, symbols):
    patient = AdaptiveSchedule(threshold=0.99, patience=4, min_batches=1, tokens_per_stage=3)
    recorder, _, _ = fit(tmp_path, mult2, symbols, patient, max_epochs=3)
    assert recorder.removed == [{s} for s in [0] * 4 + [3] * 4 + [6] * 4 + [8] * 3]
    eager = AdaptiveSchedule(threshold=1e-9, patience=4, min_batches=1, tokens_per_stage=3)
    recorder, _, _ = fit(tmp_path, mult2, symbols, eager, max_epochs=1)
    assert recorder.stages_started == [0, 3]  # an untrained model is never right


def test_an_update_does_not_depend_on_how_its_batch_is_split(tmp_path, mult2, symbols):
    """One batch of 16 and two of 8 with other numbers of supervised tokens: the same gradient."""
    schedule = FixedSchedule(0)
    weights = []
    for batch_size, accumulate in ((16, 1), (8, 2)):
        seed_everything(3)
        view = StageView(separator_id(symbols))
        data = CoTDataModule(mult2, symbols, tmp_path, view, batch_size, seed=5)
        data.prepare_data()
        model = load_model(
            "gpt2",
            False,
            symbols,
            data.longest,
            {
                "n_layer": 1,
                "n_embd": 16,
                "n_head": 2,
                "resid_pdrop": 0.0,
                "embd_pdrop": 0.0,
                "attn_pdrop": 0.0,
            },
        )
        module = CausalLM(model, lambda m: torch.optim.SGD(m.parameters(), lr=0.1))

        class Uneven(Callback):
            def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
                batch.labels[batch.input_ids == 7] = IGNORED  # rows lose unequal numbers of tokens

        Trainer(
            **QUIET,
            accumulate_grad_batches=accumulate,
            max_steps=4,
            callbacks=[Clock(0), Uneven(), Stages(schedule)],
        ).fit(module, datamodule=data)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


def test_too_long_examples_are_dropped_alone_and_counted(tmp_path, mult2, symbols):
    seed_everything(0)
    view = SmoothedView(separator_id(symbols), smoothing_lambda=0.5, seed=5, max_train_tokens=20)
    data = CoTDataModule(mult2, symbols, tmp_path, view, 16, seed=5)
    data.prepare_data()  # all examples have 21 tokens, 20 at the first removal
    config = {"n_layer": 1, "n_embd": 16, "n_head": 2}
    module = CausalLM(
        load_model("gpt2", False, symbols, data.longest, config), lambda m: adamw(m, 1e-3)
    )
    recorder = Recorder()
    Trainer(
        **QUIET,
        max_epochs=1,
        callbacks=[clock := Clock(0), recorder, Stages(LinearSchedule(tokens_per_epoch=1))],
    ).fit(module, datamodule=data)
    offsets = [draw_offsets(0.5, 5, torch.arange(16 * n, min(16 * n + 16, 70))) for n in range(5)]
    assert clock.dropped == sum(int((o == 0).sum()) for o in offsets)
    assert recorder.sizes == [int((o > 0).sum()) for o in offsets]


@dataclass
class Words(Task):
    """Examples with chains of given lengths, in this order."""

    chains: list[int]
    name = "words"

    def size(self, split):
        return len(self.chains)

    def fingerprint(self, split):
        return {"chains": self.chains}

    def symbols(self):
        return ("1", "2", "####")

    def chunks(self, split):
        yield [Example("1 2", " ".join("2" * n), "1") for n in self.chains]


@dataclass
class Updates(RunCallback):
    """Whether each batch has changed the weights, and batches without an accuracy so far."""

    changed: list[bool] = field(default_factory=list)
    unjudged: list[int] = field(default_factory=list)

    def weights(self, module):
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = self.weights(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.changed.append(not torch.equal(self.before, self.weights(pl_module)))
        self.unjudged.append(find(trainer, Stages).stage.unjudged)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_not_trained_on_moves_no_weight_and_says_nothing_of_the_accuracy(
    tmp_path, packing, accumulate
):
    """Batches of two; examples with a long chain are left out, so that many batches are empty."""
    task = Words([9] * 11 + [0] * 5)
    tokenizer = build_symbol_tokenizer(task.symbols())
    view = StageView(separator_id(tokenizer), max_train_tokens=10, packing=packing)
    seed_everything(0)
    data = CoTDataModule(task, tokenizer, tmp_path, view, 2, seed=SEED)
    data.prepare_data()
    config = {"n_layer": 1, "n_embd": 16, "n_head": 2}
    model = load_model("gpt2", False, tokenizer, data.longest, config)
    module = CausalLM(model, lambda m: adamw(m, lr=1e-3, weight_decay=0.5))
    schedule = AdaptiveSchedule(min_batches=99)
    recorder, updates = Recorder(), Updates()
    Trainer(
        **QUIET,
        accumulate_grad_batches=accumulate,
        max_epochs=1,
        gradient_clip_val=1.0,
        callbacks=[clock := Clock(0), Stages(schedule), recorder, updates],
    ).fit(module, datamodule=data)
    trained = (epoch_order(16, SEED, 0).reshape(8, 2) >= 11).any(1)
    assert trained.tolist() == [0, 0, 1, 0, 1, 1, 1, 0]
    of_update = trained.reshape(-1, accumulate).any(1).tolist()
    assert updates.changed[accumulate - 1 :: accumulate] == of_update
    assert sum(updates.changed) == recorder.adam_steps[-1] == sum(of_update)
    assert updates.unjudged == (~trained).cumsum().tolist()
    assert (clock.dropped, clock.tokens) == (11, 5 * 7)


def test_validation_is_at_the_stage_that_was_trained(tmp_path, mult2, symbols):
    seen = []

    class Spy(RunCallback):
        def on_stage_end(self, trainer, module, stage):
            seen.append(
                (stage.tokens_removed, validation.stage.tokens_removed, validation.latest.n)
            )

        def on_train_epoch_end(self, trainer, pl_module):
            seen.append(("epoch", validation.stage.tokens_removed, validation.latest.n))

    validation = ValidationAccuracy(partial(GreedyPredictor, batch_size=7), examples=6)
    schedule = LinearSchedule(tokens_per_epoch=1.5)  # 0 0 0 0 1 | 1 1 2 2 2
    fit(tmp_path, mult2, symbols, schedule, [validation, Spy()], max_epochs=2)
    assert seen == [(0, 0, 6), ("epoch", 1, 6), (1, 1, 6), (2, 2, 6), ("epoch", 2, 6)]
    assert validation.stage is not None
    assert (validation.stage.tokens_removed, validation.latest.n) == (2, 20)  # the end scores all


def test_a_run_without_a_schedule_is_one_stage(tmp_path, mult2, symbols):
    """A method may have no stages: nothing is removed, it is validated, recorded and summed up."""
    view = StageView(separator_id(symbols))
    data = CoTDataModule(mult2, symbols, tmp_path, view, 16, seed=5)
    data.prepare_data()
    config = {"n_layer": 1, "n_embd": 16, "n_head": 2}
    model = load_model("gpt2", False, symbols, data.longest, config)
    module = CausalLM(model, lambda m: adamw(m, lr=1e-3), method="without_stages")
    folder = tmp_path / "run"
    folder.mkdir()
    validation, recorder = ValidationAccuracy(examples=6), Recorder()
    callbacks = [Clock(0), recorder, validation, RunRecord(folder)]
    trainer = Trainer(**QUIET, max_epochs=2, callbacks=callbacks)
    trainer.fit(module, datamodule=data)
    assert recorder.removed == [{0}] * 10
    assert validation.latest.n == 20
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["stages"], summary["examples_seen"], summary["epochs"]) == (1, 140, 2)
    content = trainer._checkpoint_connector.dump_checkpoint(weights_only=True)
    header = read_header(content)
    assert header is not None
    assert (header.method, header.resumes, header.batches) == ("without_stages", False, 10)
    assert header.trained_at == StageMark(0, 0, everything_removed=False)


def test_everybody_learns_of_a_validation_before_the_stage_ends(tmp_path, mult2, symbols):
    told = []

    class Spy(RunCallback):
        def on_validated(self, trainer, module, validated):
            told.append((validated.batches, validated.stage.tokens_removed, validated.complete))

        def on_stage_end(self, trainer, module, stage):
            told.append("stage end")

    schedule = LinearSchedule(tokens_per_epoch=1.5)  # 0 0 0 0 1 | 1 1 2 2 2
    fit(tmp_path, mult2, symbols, schedule, [ValidationAccuracy(examples=6), Spy()], max_epochs=2)
    assert told == [
        (4, 0, False), "stage end", (5, 1, False), (7, 1, False), "stage end",
        (10, 2, False), "stage end", (10, 2, True),  # the end scores all
    ]  # fmt: skip


def test_a_batch_that_is_left_out_counts_as_a_batch_alone(tmp_path, mult2, symbols):
    class LeaveOut(Callback):
        def on_train_start(self, trainer, pl_module):
            trainer.datamodule.skipped = frozenset({1})
            self.before = None

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 1:
                assert batch.plan.skipped
                assert batch.plan.tokens == 0
                self.before = [p.detach().clone() for p in pl_module.parameters()]
            if batch_idx == 2:
                after = list(pl_module.parameters())
                assert all(torch.equal(a, b) for a, b in zip(self.before, after, strict=True))

    recorder, module, _ = fit(
        tmp_path, mult2, symbols, FixedSchedule(0), [LeaveOut()], max_epochs=1
    )
    assert clock_of(module.trainer).batches == 5
    stages = find(module.trainer, Stages)
    assert stages is not None
    assert stages.stage is not None
    assert stages.stage.batches_in_stage == 4
    assert recorder.adam_steps[-1] == 4
