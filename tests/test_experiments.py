"""Every experiment composes and is valid; every paper row has the paper's settings.

A sample trains, one experiment of each shape.
"""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module

import icot
from icot.commands.build import build_task
from icot.config.command_line import GroupOptions, chosen_options, compose_config, mistakes_in
from icot.config.entry_points import register_schemas
from icot.config.experiments import CONFIG_MODULE, PROMPTED, rows
from icot.reporting.paper import paper_row, paper_rows
from tests.conftest import REPOSITORY
from tests.conftest import icot as command

CONF = REPOSITORY / "conf"
FOLDER = CONF / "experiment" / "icot_si"
PROMPTS = sorted(path.stem for path in (CONF / "experiment" / PROMPTED).glob("*.yaml"))
ASKED = [name for name in PROMPTS if not name.startswith("table2a_")]
OF_SCOTD = [name for name in PROMPTS if name.startswith("table2a_")]
ROWS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
DISTILLED = sorted(path.stem for path in (CONF / "experiment" / "icot_kd").glob("*.yaml"))
RATIONALES = sorted(path.stem for path in (CONF / "experiment" / "scotd").glob("*.yaml"))
MATHGLM = sorted(path.stem for path in (CONF / "experiment" / "mathglm").glob("*.yaml"))
EXPERIMENTS = [name for row in (*ROWS, *MATHGLM) for name in (row, f"{row}_cpu")]
OF_NO_PAPER = sorted(path.stem for path in FOLDER.parent.glob("*.yaml"))
# Two experiments have one shape if the same code reads them: the numbers alone differ.
SHAPES = (
    "table1_4x4",  # prepared, not trained; it would train all the same
    "table2_4x4_icot_si",  # GPT-2 on multiplication with each kind of schedule, and at CPU size
    "table2_4x4_icot_si_cpu",
    "table2_4x4_explicit",
    "table2_4x4_explicit_cpu",
    "table2_4x4_no_cot",
    "table2_4x4_no_cot_cpu",
    "table2_5x5_icot_si_cpu",  # the other CPU size: ends so many updates after the last removal
    "table2_mathglm_100m",  # mixed digits with a curriculum
    "table2_mathglm_2b_cpu",
    "table3_gpt2_icot_si",  # GSM8K, packed, with a model of each size, and at CPU size
    "table3_gpt2_explicit",
    "table3_gpt2_icot_si_cpu",
    "table3_gpt2_medium_icot_si",
    "table3_phi3_icot_si",  # accumulates, in bf16
    "table3_mistral_no_cot",
    "figure2a_11x11",  # keeps each stage
    "figure3_no_smoothing",  # an infinite lambda
    "figure3_no_reset_cpu",  # keeps the moments
    "figure3_right_side",
    "appendix_c_position_ids",
    "appendix_c_tree",
)
SCHEDULES = sorted(path.stem for path in (CONF / "schedule").glob("*.yaml"))
# Keys of a schedule that not every kind has.
KEYS = {
    "linear": {
        *("tokens_per_epoch", "rounding", "warmup_epochs", "warmup_removed", "remove_all_beyond"),
        *("smoothing_lambda", "reset_optimizer", "reset_warmup_steps"),
    },
    "adaptive": {
        *(
            "threshold",
            "count_first",
            "patience",
            "min_batches",
            "decay",
            "tokens_per_stage",
            "stops",
        ),
        *("remove_all_beyond", "smoothing_lambda", "reset_optimizer", "reset_warmup_steps"),
        *("finish_threshold", "chain_loss", "chain_loss_layers", "dial_share"),
    },
    "fixed": {"tokens_removed"},
}
# The tiny model, few examples, two updates; everything else is the experiment's.
TWO_STEPS = (
    "model=tiny",
    "model.attn_implementation=eager",
    "model.config.n_layer=1",
    "model.config.n_embd=32",
    "model.config.n_head=2",
    "task.train_size=64",
    "task.valid_size=4",
    "task.test_size=4",
    "data.batch_size=8",
    "optimizer.decay_steps=0",
    "trainer.accelerator=cpu",
    "trainer.max_steps=2",
    "validation.shown=0",
)
MULTIPLICATION = {
    "lr": 5e-5,
    "batch": 32,
    "accumulation": 1,
    "precision": "32-true",
    "max_train_tokens": None,
    "seed": 3456,
}
GSM8K = MULTIPLICATION | {
    "max_train_tokens": 150,
    "seed": 1234,
}
LARGE = GSM8K | {
    "lr": 1e-5,
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
# The same of the models that are asked.
PROMPTED_RESULTS = {
    "table2_4x4_gpt35": ((0.43, 0.10), (0.02, 1)),
    "table2_5x5_gpt35": ((0.05, 0.07), (0.00, 1)),
    "table2_7x7_gpt35": ((0.00, 0.15), (0.00, 1)),
    "table2_9x9_gpt35": ((0.00, 0.11), (0.00, 1)),
    "table2_4x4_gpt4": ((0.77, 0.14), (0.04, 1)),
    "table2_5x5_gpt4": ((0.44, 0.14), (0.00, 1)),
    "table2_7x7_gpt4": ((0.03, 0.09), (0.00, 1)),
    "table2_9x9_gpt4": ((0.00, 0.07), (0.00, 1)),
    "table3_gpt35": ((0.62, None), (0.03, None)),
    "table3_gpt4": ((0.91, None), (0.44, None)),
}


def composed(*overrides: str):
    return compose_config("train", overrides)


@cache
def resolved(name: str):
    return composed(f"experiment={name}")


@pytest.fixture
def hydra():
    register_schemas()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        yield


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


def test_every_file_is_known_and_has_a_sibling(hydra):
    asked = [(PROMPTED, name) for name in PROMPTS]
    rationales = [("scotd", name) for name in RATIONALES]
    distilled = [("icot_kd", name) for name in DISTILLED]
    mathglm = [("mathglm", name) for name in MATHGLM]
    own = [("icot_si", name) for name in ROWS]
    assert list(rows()) == [*distilled, *own, *mathglm, *asked, *rationales]
    folder = {name: "mathglm" if "mathglm" in name else "icot_si" for name in EXPERIMENTS}
    of_papers = {name for short in EXPERIMENTS for name in (short, f"{folder[short]}/{short}")}
    of_papers |= {name for short in PROMPTS for name in (short, f"{PROMPTED}/{short}")}
    of_papers |= {name for short in RATIONALES for name in (short, f"scotd/{short}")}
    of_papers |= {name for short in DISTILLED for name in (short, f"icot_kd/{short}")}
    assert set(GroupOptions().of("experiment")) == of_papers | set(OF_NO_PAPER)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_is_valid(name):
    assert resolved(name).paper.place


@pytest.mark.parametrize("name", OF_NO_PAPER)
def test_an_experiment_of_no_paper_has_no_row(name):
    assert resolved(name).paper.place is None
    assert paper_row(name) is None


def test_four_digits_are_the_recipe_of_the_tiny_model():
    cfg = resolved("mult4_cpu")
    assert cfg == composed("task=mult4")
    longest = 46  # the chain's tokens
    assert (cfg.task.digits, cfg.schedule.stops[-1]) == (4, longest)


@pytest.mark.parametrize("name", ["table2_4x4_icot_si", "figure3_delta16_cpu"])
def test_an_experiment_may_be_named_with_its_folder(name, hydra):
    cfg = compose("train", [f"experiment=icot_si/{name}"], return_hydra_config=True)
    assert chosen_options(cfg.hydra.runtime.choices)["experiment"] == name
    assert composed(f"experiment=icot_si/{name}") == resolved(name)
    assert mistakes_in([f"experiment=icot_si/{name}"], "prepare") == []


def test_a_mistyped_experiment_is_answered_with_the_nearest(hydra):
    for wrong in ("table2_4x4_icot_s", "icot_si/figure3_ful", "icot_si", "papers/figure3_full"):
        (mistake,) = mistakes_in([f"experiment={wrong}"], "train")
        assert mistake.startswith(f"experiment={wrong}: ")
        assert "choose one of appendix_c_position_ids, appendix_c_position_ids_cpu" in mistake
    (mistake,) = mistakes_in(["experiment=table2_4x4_icot_s"], "train")
    assert "did you mean table2_4x4_icot_si?" in mistake


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "name",
    [
        None,
        *("table2_4x4_icot_si", "table2_4x4_explicit_cpu", "table2_5x5_icot_si_cpu"),
        *("table3_gpt2_no_cot", "table3_phi3_icot_si", "table3_gpt2_icot_si_cpu"),
    ],
)
def test_settings_set_no_key_that_the_chosen_schedule_does_not_have(name, schedule):
    name_it = [f"experiment={name}", "data.packing=false"] if name else []
    cfg = composed(*name_it, f"schedule={schedule}")
    default = composed("task=mult4", "model=gpt2", f"schedule={schedule}").schedule
    before = default.as_dict()
    changed = {key for key, value in cfg.schedule.as_dict().items() if value != before[key]}
    assert changed <= KEYS[cfg.schedule.kind] | {"side", "keep_position_ids"}


def test_official_rounding_has_the_settings_of_the_linear_schedule():
    for name in ("table2_4x4_icot_si_cpu", "table2_5x5_icot_si_cpu", "table3_phi3_icot_si"):
        official = composed(f"experiment={name}", "schedule=official").schedule
        linear = composed(f"experiment={name}", "schedule=icot_si").schedule
        assert official.rounding == "official"
        assert official.model_copy(update={"rounding": linear.rounding}) == linear


def test_the_tiny_model_is_a_model_and_its_recipe_can_be_left_out():
    text = yaml.safe_load((CONF / "model" / "tiny.yaml").read_text())
    assert set(text) == {"defaults", "model"}
    cfg = composed("task=mult2")
    assert (cfg.schedule.kind, cfg.optimizer.name, cfg.data.batch_size) == ("adaptive", "muon", 128)
    assert (cfg.validation.examples, cfg.checkpoints.every_stage) == (500, True)
    bare = composed("task=mult2", "recipe=none")
    assert bare.model == cfg.model
    assert (bare.schedule.kind, bare.optimizer.name, bare.data.batch_size) == (
        "linear",
        "adamw",
        32,
    )


@pytest.mark.parametrize("name", SHAPES)
def test_one_of_each_shape_trains_two_steps(
    name, gsm8k_lines, tmp_path, tmp_path_factory, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = ["task=gsm8k", f"task.data_dir={gsm8k_lines}"] if name.startswith("table3") else []
    cache = tmp_path_factory.getbasetemp() / "experiment_cache"
    places = [f"paths.cache_dir={cache}", "hydra.run.dir=run"]
    run = icot.train(f"experiment={name}", *data, *TWO_STEPS, *places)
    assert (run.summary["steps"], run.summary["experiment"]) == (2, name)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_a_sibling_and_says_which_number_it_is_for(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    place = str(resolved(name).paper.place)
    assert place in text.splitlines()[1]
    assert place.lower().replace(" ", "") == name.replace("_c_", "c_").split("_")[0]
    paper, own = resolved(name), resolved(f"{name}_cpu")
    assert own.paper == paper.paper
    assert paper_row(name) == paper_row(f"icot_si/{name}_cpu")
    assert own.schedule.kind == paper.schedule.kind
    assert own.model.config["n_layer"] == 2


@pytest.mark.parametrize("name", DISTILLED)
def test_a_row_of_distillation_is_a_pipeline_with_the_published_epochs(name, tmp_path):
    row = paper_row(name, "coupled")
    assert paper_row(name) is None, "its teacher is not the row's number"
    text = (FOLDER.parent / "icot_kd" / f"{name}.yaml").read_text()
    assert row.command in text
    assert f"exact match {row.accuracy:.2f} at {row.speed:.2f}" in text
    done = command("pipeline", *row.command.split()[3:], "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    epochs = re.findall(r"trainer\.max_epochs=(\d+)", done.stdout)
    assert epochs == (
        ["15", "10", "60", "10"] if "gsm8k" in row.pipeline else ["1", "40", "40", "40"]
    )
    cfg = resolved(name)
    assert (cfg.optimizer.lr, cfg.data.batch_size, cfg.seed) == (5e-5, 32, 1234)
    assert (cfg.trainer.precision, cfg.schedule.separators) == ("32-true", 1)


@pytest.mark.parametrize(
    ("size", "weights", "tokens", "results"),
    [
        ("100m", 110e6, 64 * 512, (0.80, 0.56)),
        ("500m", 503e6, 32 * 1024, (0.90, 0.60)),
        ("2b", 2.01e9, 32 * 896, (0.95, 0.90)),
    ],
)
def test_the_rows_of_mathglm_are_one_training_each(size, weights, tokens, results):
    name = f"table2_mathglm_{size}"
    cfg, row = resolved(name), paper_row(name)
    depth, width = cfg.model.config["n_layer"], cfg.model.config["n_embd"]
    assert 12 * depth * width**2 == pytest.approx(weights, rel=0.01)
    of_one = 25  # tokens of a 5 × 5 product, its separators included
    assert tokens - of_one < cfg.data.batch_size * of_one <= tokens
    assert (cfg.trainer.max_steps, cfg.trainer.max_epochs) == (1_000_000, -1)
    assert cfg.optimizer.warmup_steps == 0.01 * cfg.trainer.max_steps
    assert (cfg.schedule.tokens_removed, cfg.task.order) == ("all", "plain")
    assert row.accuracies == tuple(zip(("4 × 4", "5 × 5"), results, strict=True))
    assert row.command == f"python -m icot.train experiment={name}"
    assert paper_row(f"{name}_cpu") == row
    small = resolved(f"{name}_cpu")
    assert (small.task.max_digits, small.optimizer.name) == (3, "muon")
    task = build_task(small.task)
    assert sum(task.phases()) == 128 * 4200
    assert task.phases()[0] == 5376


def test_the_curriculum_of_mathglm_has_the_published_numbers():
    task = build_task(resolved("table2_mathglm_100m").task)
    assert task.phases() == [49_950_000, 50_000]
    most = [max(pair) for pair in task.pairs]
    first, _ = task._phases
    assert all(n == 0 for n, digits in zip(first, most, strict=True) if digits > 5)
    at_test = dict(zip(task.pairs, task.counts["test"], strict=True))
    assert min(at_test[4, 4], at_test[5, 5]) >= 1000


@pytest.mark.parametrize("name", ROWS)
def test_the_papers_hyperparameters(name):
    cfg = resolved(name)
    expected = dict(MULTIPLICATION)
    if name.startswith("table3"):
        expected = dict(LARGE if "phi3" in name or "mistral" in name else GSM8K)
    if name == "figure4_seed2":
        expected["seed"] = 1234
    found = {
        "lr": cfg.optimizer.lr,
        "batch": cfg.data.batch_size,
        "accumulation": cfg.trainer.accumulate_grad_batches,
        "precision": cfg.trainer.precision,
        "max_train_tokens": cfg.data.max_train_tokens,
        "seed": cfg.seed,
    }
    assert found == expected
    o, t = cfg.optimizer, cfg.trainer
    assert (o.name, o.weight_decay, o.warmup_steps, o.decay_steps) == ("adamw", 0.01, 0, 0)
    assert (t.max_epochs, t.max_steps, t.gradient_clip_val, t.devices) == (200, -1, 1.0, 1)
    assert cfg.model.pretrained
    s = cfg.schedule
    assert s.side == ("right" if name == "figure3_right_side" else "left")
    assert s.keep_position_ids == (name == "appendix_c_position_ids")
    if name.endswith(("explicit", "no_cot")):
        assert (s.kind, s.tokens_removed) == ("fixed", 0 if name.endswith("explicit") else "all")
        return
    gsm8k, small = name.startswith("table3"), name.startswith("table3_gpt2")
    delta = 16 if name == "figure3_delta16" else 1 if small else 8
    assert (s.kind, s.tokens_per_epoch) == ("linear", delta)
    assert s.remove_all_beyond == (39 if gsm8k else None)
    assert s.smoothing_lambda == (float("inf") if name == "figure3_no_smoothing" else 4)
    assert s.reset_optimizer == (name != "figure3_no_reset")


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


@pytest.mark.parametrize("name", ASKED)
def test_the_settings_of_the_models_that_are_asked(name):
    cfg = compose_config("evaluate", [f"experiment={name}"])
    place, model, way = re.fullmatch(r"table(\d(?:_\dx\d)?)_(gpt\d+)_(\w+)", name).groups()
    assert cfg.predictor.kind == "endpoint"
    assert cfg.predictor.model == {"gpt35": "gpt-3.5-turbo", "gpt4": "gpt-4"}[model]
    assert (cfg.predictor.temperature, cfg.predictor.api, cfg.split) == (0.0, "chat", "test")
    assert (cfg.prompt.shots, cfg.prompt.chain, cfg.prompt.stop) == (5, way == "explicit", [])
    is_multiplication = place.startswith("2")
    assert cfg.max_new_tokens == (1200 if is_multiplication and way == "explicit" else 600)
    if is_multiplication:
        assert cfg.task.digits == int(place[2])
    else:
        assert (cfg.task.format, cfg.task.dataset) == ("gsm8k_nl", "openai/gsm8k")
    assert cfg.paper.accuracy == paper_row(name).accuracy
    assert paper_row(name).command == f"python -m icot.evaluate experiment={name}"


SCOTD = {  # few-shot, then full: label-only, greedy-CoT, SCoTD, its majority (Tables 2b and 3a)
    "csqa": ((0.627, 0.646, 0.602, 0.647), (0.630, 0.682, 0.670, 0.668)),
    "quarel": ((0.656, 0.647, 0.734, 0.730), (0.590, 0.712, 0.838, 0.838)),
    "obqa": ((0.598, 0.488, 0.444, 0.578), (0.602, 0.500, 0.670, 0.636)),
}


@pytest.mark.parametrize("task", SCOTD)
def test_the_results_of_scotd_and_what_its_rows_differ_in(task):
    found = {row.experiment: row for row in paper_rows()}
    for setting, results in zip(("few_shot", "full"), SCOTD[task], strict=True):
        names = [f"table2b_{task}_{setting}_{way}" for way in ("label_only", "greedy_cot", "scotd")]
        assert tuple(found[name].accuracy for name in names) == results[:3]
        assert found[names[2]].majority == results[3]
        label_only, greedy, many = map(resolved, names)
        assert {cfg.task.labels for cfg in (label_only, greedy, many)} == {
            "teacher" if setting == "few_shot" else "gold"
        }
        assert (label_only.schedule.tokens_removed, many.schedule.tokens_removed) == ("all", 0)
        assert label_only.task.samples == many.task.samples == f"data/scotd/{task}"
        assert greedy.task.samples == f"data/scotd/{task}_greedy"


@pytest.mark.parametrize("name", RATIONALES)
def test_the_students_of_scotd_have_the_published_settings(name):
    cfg, row = resolved(name), paper_row(name)
    o, t, v = cfg.optimizer, cfg.trainer, cfg.validation
    assert (o.name, o.lr, o.eps, o.weight_decay) == ("adamw", 2e-5, 1e-5, 0.0)
    assert (o.warmup_steps, o.decay_steps, t.max_steps) == (500, 19_500, 20_000)
    assert (cfg.data.batch_size, t.gradient_clip_val) == (32, 0.5)
    assert (v.every_steps, v.max_new_tokens, cfg.task.selection) == (2000, 256, "valid")
    assert cfg.model.name_or_path == "facebook/opt-1.3b"
    assert (row.source, row.siblings) == ("arXiv 2306.14050", ())
    is_curve = row.accuracy is None
    assert (row.sweep is not None) == is_curve
    if is_curve:
        register_schemas()
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            words = row.command.split()[4:]
            assert mistakes_in(words, "train", multirun=True) == []


@pytest.mark.parametrize("name", OF_SCOTD)
def test_the_settings_of_the_prompted_models_of_scotd(name):
    cfg = compose_config("evaluate", [f"experiment={name}"])
    task, model, way = re.fullmatch(r"table2a_(\w+)_(gpt3|opt)_(explicit|no_cot)", name).groups()
    assert cfg.predictor.kind == ("prompted" if model == "opt" else "endpoint")
    assert (cfg.split, cfg.prompt.chain) == ("valid", way == "explicit")
    assert (cfg.prompt.question_form, cfg.prompt.stop) == ("Q: {question}\nA:", ["\n"])  # no chats
    assert (cfg.prompt.exemplars is not None) == cfg.prompt.chain
    assert cfg.prompt.shots == {"csqa": 7, "quarel": 5, "obqa": 4}[task]
    assert cfg.paper.accuracy == paper_row(name).accuracy
    assert (cfg.paper.majority is not None) == cfg.prompt.chain


def test_the_papers_results():
    rows = {row.experiment: row for row in paper_rows()}
    assert sorted(rows) == sorted([*ROWS, *PROMPTS, *DISTILLED, *RATIONALES, *MATHGLM])
    for name, results in (RESULTS | PROMPTED_RESULTS).items():
        for method, (accuracy, speed) in zip(METHODS, results, strict=False):
            row = rows[f"{name}_{method}"]
            assert (row.accuracy, row.speed) == (accuracy, speed)
    assert rows["table1_9x9"].tokens == (19, 246, 19)
    assert [row.place for row in paper_rows()][:4] == ["Table 1"] * 4
