"""Every experiment composes, is valid and trains; every paper row has the paper's settings."""

import json
import os
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from icot.commands.train import train
from icot.config.checks import check_values
from icot.config.entry_points import register_schemas
from icot.config.experiments import CONFIG_MODULE
from icot.reporting.paper import paper_rows
from tests.conftest import REPOSITORY

FILES = sorted((REPOSITORY / "conf" / "experiment").glob("*.yaml"))
EXPERIMENTS = [path.stem for path in FILES]
ROWS = [name for name in EXPERIMENTS if not name.endswith("_cpu")]
# The tiny model, few examples, two updates; everything else is the experiment's.
TWO_STEPS = (
    "model=tiny",
    "model.attn_implementation=eager",
    "model.config.n_layer=1",
    "model.config.n_embd=32",
    "model.config.n_head=2",
    "task.train_size=64",
    "task.valid_size=4",
    "data.batch_size=8",
    "optimizer.decay_steps=0",
    "trainer.accelerator=cpu",
    "trainer.max_steps=2",
    "validation.shown=0",
)
MULTIPLICATION = {
    "lr": 5e-5,
    "tokens_per_epoch": 8,
    "batch": 32,
    "accumulation": 1,
    "precision": "32-true",
    "max_train_tokens": None,
    "remove_all_beyond": None,
    "seed": 3456,
}
GSM8K = MULTIPLICATION | {
    "tokens_per_epoch": 1,
    "max_train_tokens": 150,
    "remove_all_beyond": 39,
    "seed": 1234,
}
LARGE = GSM8K | {
    "lr": 1e-5,
    "tokens_per_epoch": 8,
    "batch": 16,
    "accumulation": 2,
    "precision": "bf16-true",
}
# Accuracy and speed of Tables 2 and 3.
RESULTS = {
    "table2_4x4": ((1.00, 0.17), (0.29, 1), (1.00, 1.02)),
    "table2_5x5": ((1.00, 0.14), (0.01, 1), (0.95, 1.00)),
    "table2_7x7": ((1.00, 0.12), (0.00, 1), (0.95, 1.00)),
    "table2_9x9": ((1.00, 0.09), (0.00, 1), (0.99, 1.00)),
    "table3_gpt2": ((0.41, None), (0.13, None), (0.30, None)),
    "table3_gpt2_medium": ((0.44, None), (0.17, None), (0.35, None)),
    "table3_phi3": ((0.74, None), (0.28, None), (0.31, None)),
    "table3_mistral": ((0.68, None), (0.38, None), (0.51, None)),
}
METHODS = ("explicit", "no_cot", "icot_si")


def composed(*overrides: str, hydra: bool = False):
    register_schemas()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=hydra)


@cache
def resolved(name: str):
    cfg = composed(f"experiment={name}")
    assert check_values(cfg) == []
    return cfg


@pytest.fixture(scope="module")
def gsm8k_lines(tmp_path_factory) -> Path:
    """Problems in GSM8K's format; the rows' own data set is fetched from the hub."""
    folder = tmp_path_factory.mktemp("gsm8k")
    for split in ("train", "valid", "test"):
        lines = [
            f"Tom has {a} boxes of {b} pens. How many?||<<{a}*{b}={a * b}>> #### {a * b}\n"
            for a in range(2, 10)
            for b in range(2, 10)
        ]
        (folder / f"{split}.txt").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_trains_two_steps(name, gsm8k_lines, tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ["task=gsm8k", f"task.data_dir={gsm8k_lines}"] if name.startswith("table3") else []
    cache = tmp_path_factory.getbasetemp() / "experiment_cache"
    overrides = [
        f"experiment={name}",
        *data,
        *TWO_STEPS,
        f"paths.cache_dir={cache}",
        "paths.output_dir=run",
    ]
    cfg = composed(*overrides, hydra=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = os.fspath(tmp_path)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.resolve(cfg.hydra.runtime)
    with open_dict(cfg):
        del cfg["hydra"]
    assert check_values(cfg) == []
    train(cfg)
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["steps"], summary["experiment"]) == (2, name)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_a_sibling_and_says_which_number_it_is_for(name):
    assert f"{name}_cpu" in EXPERIMENTS
    text = (REPOSITORY / "conf" / "experiment" / f"{name}.yaml").read_text()
    place = str(resolved(name).paper.place)
    assert place in text.splitlines()[1]
    assert place.lower().replace(" ", "") == name.replace("_c_", "c_").split("_")[0]
    paper, own = resolved(name), resolved(f"{name}_cpu")
    assert own.paper == paper.paper
    assert own.schedule.kind == paper.schedule.kind
    assert own.model.config.n_layer == 2


@pytest.mark.parametrize("name", ROWS)
def test_the_papers_hyperparameters(name):
    cfg = resolved(name)
    expected = dict(MULTIPLICATION)
    if name.startswith("table3"):
        expected = dict(LARGE if "phi3" in name or "mistral" in name else GSM8K)
    if name == "figure3_delta16":
        expected["tokens_per_epoch"] = 16
    if name == "figure4_seed2":
        expected["seed"] = 1234
    found = {
        "lr": cfg.optimizer.lr,
        "tokens_per_epoch": cfg.schedule.tokens_per_epoch,
        "batch": cfg.data.batch_size,
        "accumulation": cfg.trainer.accumulate_grad_batches,
        "precision": cfg.trainer.precision,
        "max_train_tokens": cfg.data.max_train_tokens,
        "remove_all_beyond": cfg.schedule.remove_all_beyond,
        "seed": cfg.seed,
    }
    assert found == expected
    o, t = cfg.optimizer, cfg.trainer
    assert (o.name, o.weight_decay, o.warmup_steps, o.decay_steps) == ("adamw", 0.01, 0, 0)
    assert (t.max_epochs, t.max_steps, t.gradient_clip_val, t.devices) == (200, -1, 1.0, 1)
    assert cfg.model.pretrained
    s = cfg.schedule
    assert s.smoothing_lambda == (float("inf") if name == "figure3_no_smoothing" else 4)
    assert s.side == ("right" if name == "figure3_right_side" else "left")
    assert s.reset_optimizer == (name != "figure3_no_reset")
    assert s.keep_position_ids == (name == "appendix_c_position_ids")
    baseline = {"explicit": ("fixed", 0), "no_cot": ("fixed", "all")}
    kind, removed = next((v for k, v in baseline.items() if name.endswith(k)), ("linear", 0))
    assert (s.kind, s.tokens_removed) == (kind, removed)


def test_tasks_and_models_of_the_rows():
    digits = {"4x4": 4, "5x5": 5, "7x7": 7, "9x9": 9, "11x11": 11}
    for name in ROWS:
        cfg = resolved(name)
        if name.startswith("table3"):
            assert cfg.task.dataset == "whynlp/gsm8k-aug"
            continue
        assert cfg.model.name_or_path == "gpt2"
        size = next((n for text, n in digits.items() if f"_{text}" in f"_{name}"), None)
        assert cfg.task.digits == (size or (9 if "figure4" in name else 7))
        assert cfg.task.chain == ("tree" if name == "appendix_c_tree" else "long")
    models = {
        "gpt2": "gpt2",
        "gpt2_medium": "gpt2-medium",
        "phi3": "microsoft/Phi-3-mini-4k-instruct",
        "mistral": "mistralai/Mistral-7B-v0.1",
    }
    for short, model in models.items():
        for method in METHODS:
            assert resolved(f"table3_{short}_{method}").model.name_or_path == model


def test_the_papers_results():
    rows = {row.experiment: row for row in paper_rows()}
    assert sorted(rows) == sorted(ROWS)
    for name, results in RESULTS.items():
        for method, (accuracy, speed) in zip(METHODS, results, strict=True):
            row = rows[f"{name}_{method}"]
            assert (row.accuracy, row.speed) == (accuracy, speed)
    assert rows["table1_9x9"].tokens == (19, 246, 19)
    assert [row.place for row in paper_rows()][:4] == ["Table 1"] * 4
