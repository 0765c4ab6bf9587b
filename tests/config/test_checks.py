"""Every shipped configuration composes; every mistake is told, with the nearest valid name."""

import sys
from types import ModuleType

import pytest
from hydra import initialize_config_module
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry
from pydantic import ValidationError
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from icot.config.checks import ACCELERATORS, STRATEGIES
from icot.config.command_line import compose_config, mistakes_in
from icot.config.entry_points import register_schemas
from icot.config.experiments import CONFIG_MODULE
from icot.config.schema import ATTENTION, TrainerConfig
from tests.conftest import REPOSITORY

GROUPS = ("task", "model", "schedule", "optimizer", "trainer", "logger", "callbacks")
OPTIONS = [
    f"{group}={path.stem}"
    for group in GROUPS
    for path in sorted((REPOSITORY / "conf" / group).glob("*.yaml"))
]


@pytest.fixture(autouse=True)
def hydra():
    register_schemas()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        yield


@pytest.mark.parametrize("option", [o for o in OPTIONS if o != "task=multiplication"])
@pytest.mark.parametrize("name", ["train", "prepare"])
def test_every_file_composes_and_is_valid(name, option, tmp_path):
    needed = {"task=text": "task.data_dir", "task=rationales": "task.samples"}
    data = [f"{needed[option]}={tmp_path}"] if option in needed else []
    assert mistakes_in([option, *data], name) == []


def resolved(*overrides: str):
    return compose_config("train", overrides)


def test_the_papers_hyperparameters_for_multiplication():
    cfg = resolved("task=mult9", "model=gpt2")
    assert (cfg.optimizer.name, cfg.optimizer.lr, cfg.optimizer.weight_decay) == (
        "adamw",
        5e-5,
        0.01,
    )
    assert (cfg.schedule.kind, cfg.schedule.tokens_per_epoch) == ("linear", 8)
    assert (cfg.schedule.smoothing_lambda, cfg.schedule.side) == (4, "left")
    assert cfg.schedule.reset_optimizer
    assert (cfg.data.batch_size, cfg.trainer.accumulate_grad_batches) == (32, 1)
    assert (cfg.trainer.max_epochs, cfg.trainer.max_steps) == (200, -1)
    assert (cfg.trainer.gradient_clip_val, cfg.seed) == (1.0, 3456)
    assert cfg.task.digits == 9


def test_choices_on_the_command_line_win_over_what_suits_the_tiny_model():
    assert resolved().schedule.kind == "adaptive"
    assert resolved("schedule=icot_si").schedule.kind == "linear"
    assert resolved("schedule=no_cot").schedule.tokens_removed == "all"
    assert resolved("optimizer=adamw", "optimizer.lr=1e-3").optimizer.name == "adamw"


@pytest.mark.parametrize("digits", range(2, 21))
def test_digits(digits):
    assert resolved(f"task=mult{digits}").task.digits == digits


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("taks=mult4", "did you mean task?"),
        ("task=mult44", "did you mean mult4?"),
        ("schedule.token_per_epoch=3", "did you mean schedule.tokens_per_epoch?"),
        ("+schedule.tokens_per_epok=3", "did you mean schedule.tokens_per_epoch?"),
        ("schedule.lr=3", "did you mean optimizer.lr?"),
        ("model.config.n_positions=64", "to add it, +model.config.n_positions=64"),
        ("data.batch_size=many", "must be an integer"),
        ("data.batch_size=0", "at least 1"),
        ("schedule.smoothing_lambda=0", "above 0"),
        ("schedule.side=up", "choose one of left, right"),
        ("schedule.tokens_removed=some", "has no effect with schedule.kind=adaptive"),
        ("optimizer.name=adam", "did you mean adamw?"),
        ("trainer.max_steps=0", "-1 for no limit"),
        ("schedule.stops=[3,2]", "must increase"),
        ("model.pretrained=true", "model.tokenizer=symbol"),
        ("task=text", "task.data_dir must be set"),
        ("schedule.side=[", "schedule.side=["),
        ("schedule.kind=lineer", "did you mean linear?"),
        ("optimizer.betas=[0.9]", "at least 2 values"),
        ("trainer.devices=foo", "auto, or -1 for all"),
        ("collapse.share=7", "at most 1"),
        ("data=null", "must be a group of keys"),
        ("schedule.tokens_per_epoch=4", "it belongs to linear"),
        ("-m=3", "-m=3"),
    ],
)
def test_a_mistake_names_what_is_wrong(override, expected):
    mistakes = mistakes_in([override], "train")
    assert len(mistakes) == 1
    assert expected in mistakes[0]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["schedule=no_cot", "schedule.tokens_per_epoch=4"],
            "has no effect with schedule.kind=fixed",
        ),
        (["schedule=icot_si", "schedule.stops=[3]"], "it belongs to adaptive"),
        (["optimizer=adamw", "optimizer.momentum=0.9"], "it belongs to muon"),
        (["schedule=no_cot", "schedule.tokens_removed=some"], "or all"),
        (["model=gpt2", "+model.config.n_layer=2"], "shape of pretrained weights is fixed"),
        (["trainer=fsdp", "model.compile=default"], "leave it out with trainer=fsdp"),
        (["schedule=icot_si", "schedule.keep_position_ids=true", "data.packing=true"], "from 0"),
        (["schedule=dial", "schedule.side=right"], "set schedule.side=left"),
        (["schedule.filler=fixed"], "set both, or neither"),
        (["schedule.filler_count=3"], "set both, or neither"),
        (["schedule.supervise_filler=true"], "needs schedule.filler"),
        (["schedule=dial", "schedule.filler=one_for_one"], "set schedule.keep_position_ids=false"),
        (
            ["schedule=no_cot", "schedule.separators=1", "schedule.filler=one_for_one"],
            "set schedule.separators=2",
        ),
        (["schedule=explicit", "schedule.filler=one_for_one"], "removes no token"),
        (
            ["model=gpt2", "model.lora.r=2", "schedule.filler=one_for_one"],
            "set model.lora.r=null",
        ),
        (
            ["schedule=adaptive", "schedule.finish_threshold=0.9", "trainer.finish_steps=null"],
            "both",
        ),
    ],
)
def test_what_does_not_go_together_is_told(overrides, expected):
    (mistake,) = mistakes_in(overrides, "train")
    assert expected in mistake


@pytest.mark.parametrize("devices", [0, -2, [], [0, 0], [-1], "1,1", "1,", "-2", "", "foo", None])
def test_devices_that_there_cannot_be(devices):
    with pytest.raises(ValidationError):
        TrainerConfig(devices=devices)


@pytest.mark.parametrize("devices", [1, 8, -1, [0], [3, 1], "0,2", "auto", "3", "-1"])
def test_devices_that_there_may_be(devices):
    assert TrainerConfig(devices=devices).devices == devices


def test_the_names_that_the_schema_lists_are_those_of_the_libraries():
    assert set(STRATEGIES) - {"auto"} <= set(StrategyRegistry.available_strategies())
    assert set(ATTENTION) - {"eager"} <= set(ALL_ATTENTION_FUNCTIONS.keys())
    assert set(ACCELERATORS) - {"auto", "gpu"} == set(AcceleratorRegistry.available_accelerators())


def test_all_mistakes_are_told_at_once():
    overrides = ["taks=mult4", "modle.dtype=x", "seed=a", "task=mult44", "+schedule.x=1"]
    assert len(mistakes_in(overrides, "train")) == len(overrides)
    assert (
        len(mistakes_in(["schedule.side=up", "optimizer.lr=-1", "data.batch_size=0"], "train")) == 3
    )


def test_unknown_keys_and_values_out_of_range_are_told_together():
    mistakes = mistakes_in(["taks=mult4", "schedule.side=up", "data.batch_size=x"], "train")
    assert len(mistakes) == 3


def test_sweeps_are_checked_value_by_value():
    assert (
        len(mistakes_in(["schedule.side=left,up", "data.batch_size=8,0"], "train", multirun=True))
        == 2
    )
    assert (
        mistakes_in(
            [
                "schedule=icot_si",
                "schedule.tokens_per_epoch=2,4",
                "schedule.smoothing_lambda=4,inf",
            ],
            "train",
            multirun=True,
        )
        == []
    )
    mistakes = mistakes_in(
        ["schedule=icot_si", "schedule.tokens_per_epoch=2,x", "task=mult4,mult55"],
        "train",
        multirun=True,
    )
    assert len(mistakes) == 2


def test_a_callback_of_the_calling_script_is_found(monkeypatch):
    cell = ModuleType("cell_of_a_notebook")  # like __main__ there, it has no spec
    monkeypatch.setitem(sys.modules, cell.__name__, cell)
    assert mistakes_in([f"+callbacks.x._target_={cell.__name__}.Mine"], "train") == []


@pytest.mark.parametrize("shape", ["num_key_value_heads=null", "intermediate_size=[64,128]"])
def test_shapes_that_some_architectures_have_are_accepted(shape):
    assert mistakes_in([f"+model.config.{shape}"], "train") == []


def test_open_keys_take_anything():
    assert mistakes_in(["+model.config.n_inner=64", "model.config.n_layer=3"], "train") == []
    assert (
        mistakes_in(
            ["+callbacks.x._target_=lightning.pytorch.callbacks.DeviceStatsMonitor"], "train"
        )
        == []
    )
