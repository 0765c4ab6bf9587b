"""All computation on a simulated GPU: devices are not mixed, and synchronisations are counted.

``tests/pretended_gpu.py`` says what this can show and what it cannot.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer, seed_everything

import icot
from icot.cli import compose_run
from icot.commands.build_trainer import trainer_arguments
from icot.commands.export import run as export
from icot.config.checks import validate
from icot.config.command_line import CommandLine
from icot.config.entry_points import ExportConfig
from icot.config.schema import TrainConfig
from icot.data.staged import StagedExamples
from icot.data.tokenized import separator_id, tokenize_split
from icot.errors import ModelError
from icot.inference.predictor import GreedyPredictor
from icot.methods.icot_si.optimizer_reset import OptimizerReset
from icot.methods.icot_si.view import SmoothedView
from icot.models.forward import LARGE_VOCABULARY, parts_of, predict
from icot.models.loading import load_model
from icot.schedule import AdaptiveSchedule, LinearSchedule
from icot.training.callbacks.clock import Clock
from icot.training.callbacks.device_use import DeviceUse
from icot.training.callbacks.stages import Stages
from icot.training.causal_lm import CausalLM
from icot.training.datamodule import CoTDataModule
from icot.training.metrics_file import MetricsFile
from icot.training.module import NonFiniteError
from icot.training.optimizers import adamw, muon
from icot.training.precision import HalfPrecisionWeights
from tests.data.test_packing import ragged
from tests.models.test_forward import gpt2
from tests.pretended_gpu import CPU, GPU, PretendedGPU
from tests.small import SMALL

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 1, "n_embd": 16, "n_head": 2},
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
}
NO_DROPOUT = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
OPTIMIZERS = {
    "adamw": lambda model: adamw(model, lr=1e-3),
    "muon": lambda model: muon(model, lr=1e-3, adamw_lr=1e-3),
}


@pytest.fixture
def gpu() -> Iterator[PretendedGPU]:
    with PretendedGPU() as pretended:
        yield pretended


def fit(
    folder: Path,
    task,
    tokenizer,
    *callbacks: Callback,
    model: str = "gpt2",
    shape: dict[str, Any] | None = None,
    optimizer: str = "adamw",
    schedule=None,
    view: dict[str, Any] | None = None,
    **trainer: Any,
) -> CausalLM:
    """Train for an epoch of five batches on the GPU; ``callbacks`` are called last."""
    seed_everything(3)
    terms = SmoothedView(separator_id(tokenizer), smoothing_lambda=1.0, seed=5, **(view or {}))
    data = CoTDataModule(task, tokenizer, folder, terms, batch_size=16, seed=5)
    data.prepare_data()
    shape = SHAPES[model] | (shape or {})
    built = load_model(model, False, tokenizer, data.longest, shape)
    module = CausalLM(built, OPTIMIZERS[optimizer])
    stages = Stages(schedule or LinearSchedule(tokens_per_epoch=4))
    settings: dict[str, Any] = {
        "accelerator": "cuda",
        "devices": 1,
        "max_epochs": 1,
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 100,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "use_distributed_sampler": False,
        "logger": False,
    }
    ours = [Clock(0), DeviceUse(), OptimizerReset(), stages, *callbacks]
    Trainer(**settings | trainer, callbacks=ours).fit(module, datamodule=data)
    return module


class Waits(Callback):
    """For what the host has waited, by batch."""

    def __init__(self, gpu: PretendedGPU) -> None:
        self.gpu = gpu
        self.batches: list[list[str]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append(self.gpu.synchronisations[:])
        moments = [v for s in trainer.optimizers[0].state.values() for v in s.values()]
        for tensor in (*pl_module.parameters(), *moments, batch.input_ids, outputs["exact"]):
            assert tensor.device == GPU
        self.gpu.synchronisations.clear()


CHECK = "tolist in configure_gradient_clipping"
PACKED = "item in find_packed_sequence_indices"  # transformers looks for the borders
EXACT = "tolist in _accuracy_at_stage"
ADAPTIVE = AdaptiveSchedule(threshold=0.99, patience=2, min_batches=1)
TRAININGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "as the paper trains": ({}, [CHECK]),
    "mixed precision, muon": ({"precision": "bf16-mixed", "optimizer": "muon"}, [CHECK]),
    "packed, too long ones dropped": (
        {"view": {"packing": True, "max_train_tokens": 19}},
        [PACKED, CHECK],
    ),
    "kept positions, adaptive": (
        {"view": {"keep_position_ids": True}, "schedule": ADAPTIVE},
        [CHECK, EXACT],
    ),
    "right side, weights in bf16": (
        {"view": {"side": "right"}, "plugins": [HalfPrecisionWeights("bf16-true")]},
        [CHECK],
    ),
}


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("name", TRAININGS)
def test_a_batch_takes_these_waits_and_no_other(tmp_path, mult2, symbols, gpu, name, model):
    settings, expected = TRAININGS[name]
    waits = Waits(gpu)
    fit(tmp_path, mult2, symbols, waits, model=model, **settings)
    assert waits.batches[1:] == [expected] * 4  # the first has those of the start
    assert len(gpu.seeds) > 5, "dropout is drawn by the GPU"


def test_micro_batches_wait_once_together(tmp_path, mult2, symbols, gpu):
    waits = Waits(gpu)
    fit(tmp_path, mult2, symbols, waits, accumulate_grad_batches=2)
    assert waits.batches[1:] == [[CHECK], [], [CHECK], [CHECK]]


def test_metrics_are_waited_for_where_a_row_is_written(tmp_path, mult2, symbols, gpu):
    waits = Waits(gpu)
    metrics = MetricsFile(tmp_path / "metrics.csv")
    fit(tmp_path, mult2, symbols, waits, logger=metrics, log_every_n_steps=3)
    row = ["item in to_item"] * 5  # three of the step, two of the stage, behind the batch's end
    assert waits.batches[1:] == [[CHECK], [CHECK], [*row, CHECK], [CHECK]]


@pytest.mark.parametrize("model", SHAPES)
def test_the_weights_are_those_of_the_cpu(tmp_path, mult2, symbols, model):
    """Without dropout, which each kind of device draws in its own way."""
    shape = NO_DROPOUT if model == "gpt2" else None
    settings = {"model": model, "shape": shape, "view": {"packing": True}}
    trained = [fit(tmp_path, mult2, symbols, accelerator="cpu", **settings)]
    with PretendedGPU():
        trained.append(fit(tmp_path, mult2, symbols, **settings))
    for p, q in zip(*(module.parameters() for module in trained), strict=True):
        assert torch.equal(p, q)


def test_a_gpu_that_is_not_trained_on_is_left_alone(tmp_path, mult2, symbols, gpu):
    pinned = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            pinned.append(trainer.train_dataloader.pin_memory or batch.input_ids.is_pinned())

    fit(tmp_path, mult2, symbols, Look(), accelerator="cpu")
    assert pinned == [False] * 5
    assert gpu.synchronisations == []


def test_a_bad_number_is_found_before_a_weight_is_touched(tmp_path, mult2, symbols, gpu):
    seen = []

    class Poison(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 1:
                pl_module.model.get_input_embeddings().weight.data[batch.input_ids[3, 0]] = np.nan
                seen.extend((p, p.detach().cpu()) for p in pl_module.parameters())

    with pytest.raises(NonFiniteError) as caught:
        fit(tmp_path, mult2, symbols, Poison())
    assert caught.value.examples
    assert caught.value.by_loss
    for parameter, before in seen:
        assert torch.equal(parameter.cpu().nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("mixed", [False, True])
def test_a_large_vocabulary_in_parts(mixed):
    model, gradients = gpt2(LARGE_VOCABULARY), []
    with PretendedGPU():
        for device in (CPU, GPU):
            model.to(device).zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                found = predict(model, ragged(6, seed=1).to(device), parts_of(model))
            found.loss.backward()
            assert found.loss.device == found.predicted.device == device
            gradients.append([p.grad.cpu() for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("model", SHAPES)
def test_what_is_written_is_what_the_cpu_writes(tmp_path, mult2, symbols, model, keep):
    store = tokenize_split(mult2, "valid", symbols, tmp_path)
    eos = separator_id(symbols)
    examples = StagedExamples(store, np.arange(len(store)), 3, eos, keep_position_ids=keep)
    built = load_model(model, False, symbols, store.longest, SHAPES[model]).eval()
    questions = ["2 1 * 3 4", "5 6 * 7 8", "1 2"]
    written = []
    with PretendedGPU() as gpu:
        for device in (CPU, GPU):
            built.to(device)
            gpu.synchronisations.clear()
            for decode in ("verify", "always"):
                predictor = GreedyPredictor(built, 8, decode)
                written.append(predictor.predict(examples).tokens)
                assert predictor.device == device
            answers = predictor.answer(
                questions, symbols, max_new_tokens=9, tokens_removed=3, keep_position_ids=keep
            )
            written.append(answers)
    assert written[0] == written[1] == written[3] == written[4]
    assert written[2] == written[5]


def test_training_takes_the_device_that_evaluation_takes(tmp_path):
    """Lightning's own auto takes Apple's GPU, too; here that is not a GPU."""
    words = ["hydra.run.dir=run", f"paths.output_root={tmp_path}"]
    cfg = validate(compose_run("train", words)[0], TrainConfig)

    def chosen(accelerator: str) -> Any:
        trainer = cfg.trainer.model_copy(update={"accelerator": accelerator})
        return trainer_arguments(cfg.model_copy(update={"trainer": trainer}))["accelerator"]

    assert [chosen(name) for name in ("auto", "cpu", "tpu")] == ["cpu", "cpu", "tpu"]
    for name in ("gpu", "cuda"):
        with pytest.raises(ModelError, match=f"accelerator={name}: there is no GPU"):
            chosen(name)
    with PretendedGPU():
        found = [chosen(name) for name in ("auto", "gpu", "cuda", "cpu")]
    assert found == ["cuda", "cuda", "cuda", "cpu"]


def test_the_commands(tmp_path, monkeypatch):
    """Training, going on, evaluation and export, with all that they choose for a GPU."""
    monkeypatch.chdir(tmp_path)
    ours = [word for word in SMALL if not word.startswith(("trainer", "model.attn"))]
    places = {"paths": {"output_dir": "", "cache_dir": "cache"}}
    with PretendedGPU():
        icot.train(
            *ours, "schedule.patience=2", "trainer.max_steps=4", "trainer.log_every_n_steps=2",
            "hydra.run.dir=run", "paths.cache_dir=cache",
        )  # fmt: skip
        run = icot.train("resume=run", "trainer.max_steps=6")
        found = run.evaluate(examples=4, out="found", speed={"examples": 1}, **places)
        options = {"run_dir": "run", "out": "exported", "examples": 4, **places}
        export(validate(options, ExportConfig), CommandLine("export"))
    assert run.summary["steps"] == 6
    assert found["device"] == "cuda:0"
    environment = json.loads(Path("run/environment.json").read_text())
    assert environment["precision"] == "bf16-mixed"
    with Path("run/metrics.csv").open() as file:
        assert len([row for row in csv.DictReader(file) if row["train/loss"]]) == 3
    assert len(run.answer(["2 1 * 3 4"])) == 1  # on the CPU
