"""Teacher, student, emulator and both coupled, as a user trains them, at the smallest size."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from icot.commands.api import load
from icot.commands.build import build_task
from icot.commands.build_method import build_method, model_maker
from icot.commands.demo import make_service
from icot.config.checks import validate
from icot.config.entry_points import DemoConfig
from icot.data.staged import StagedExamples
from icot.data.tokenized import separator_id, tokenize_split
from icot.demonstration.writers import Shelf
from icot.evaluation.loading import restore_weights
from icot.methods.base import PredictorParts
from icot.reporting.finding import find_runs
from icot.runs.checkpoints import select_stage
from icot.runs.kept_run import KeptRun
from icot.tasks.base import Example
from tests.conftest import icot
from tests.running import alone, assert_refused
from tests.small import SMALL, TWO_RANKS

COMMON = (*SMALL, "model.config.n_layer=3", "paths.cache_dir=cache", "trainer.max_steps=12")
COMMON += ("trainer.log_every_n_steps=3",)
FURTHER = {
    "student": ("method=mind_reading", "method.teacher=teacher"),
    "emulator": ("method=emulator", "method.teacher=teacher"),
    "coupled": ("method=coupled", "method.student=student", "method.emulator=emulator"),
}


def train(folder, name, *overrides):
    done = icot("train", *COMMON, f"hydra.run.dir={name}", *overrides, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / name


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of each kind."""
    folder = tmp_path_factory.mktemp("kd")
    train(folder, "teacher", "schedule=explicit")
    for name, further in FURTHER.items():
        train(folder, name, *further)
    return folder


def losses(run):
    with (run / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def weights(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def restored(run):
    kept = KeptRun(run)
    checkpoint = select_stage(kept, "final")[0]
    return kept, restore_weights(
        kept, checkpoint, None, model_maker(*build_method(kept.cfg.method))
    )


def staged(kept, tokenizer, rows=20):
    store = tokenize_split(build_task(kept.cfg.task), "valid", tokenizer, kept.folder / "cache")
    return StagedExamples(store, np.arange(rows), store.longest_cot, separator_id(tokenizer))


def test_each_is_a_run_of_its_method(place):
    for name, method in (
        ("student", "mind_reading"),
        ("emulator", "emulator"),
        ("coupled", "coupled"),
    ):
        header = torch.load(place / name / "checkpoints" / "last.ckpt", weights_only=True)["icot"]
        assert header["method"] == method
        summary = json.loads((place / name / "summary.json").read_text())
        assert summary["tokens_removed"] == summary["longest_cot"]
    summary = json.loads((place / "emulator" / "summary.json").read_text())
    assert summary["accuracy"] is None
    # An emulation of zero is L H / 2 away.
    assert 0 < summary["best_distance"] < 1.5 * 3 * 32 / 2


@pytest.mark.parametrize("name", FURTHER)
def test_each_makes_the_updates_of_a_loop_over_rows(place, name):
    folder = f"step_{name}"
    done = icot(
        "benchmark", "what=step", *COMMON, *FURTHER[name], "optimizer=adamw",
        "trainer.precision=32-true", "repeats=20", f"out={folder}", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((place / folder / "benchmark-step.json").read_text())
    assert list(found["stages"]) == ["8"], "everything is removed"
    assert found["stages"]["8"]["largest_loss_difference"] < 1e-4
    assert found["stages"]["8"]["utilisation"]["ours"] > 0


@pytest.mark.parametrize("further", [(), ("method.component_weight=1", "method.delta=2")])
def test_a_mixture_makes_the_updates_of_the_loop(place, further):
    mixture = (*FURTHER["emulator"], "method.mixture_size=17", *further)
    done = icot(
        "benchmark", "what=step", *COMMON, *mixture, "optimizer=adamw",
        "trainer.precision=32-true", "repeats=9", "out=step_mixture", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((place / "step_mixture" / "benchmark-step.json").read_text())
    assert found["stages"]["8"]["largest_loss_difference"] < 1e-4


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("student", ["method.subset=top_row"], "method.subset=top_row: leave it out"),
        ("coupled", ["method.teacher=teacher", "method.distance_weight=1"], "on the answer alone"),
    ],
)
def test_what_the_loop_does_not_have_is_not_timed(place, name, overrides, said):
    timed = ("what=step", "repeats=1", "out=step_refused")
    done = icot("benchmark", *timed, *COMMON, *FURTHER[name], *overrides, cwd=place)
    assert_refused(done, said)


def test_mind_reading_is_never_called_accuracy(place):
    run = place / "student"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["accuracy"] is None
    assert 0 <= summary["mind_reading_accuracy"] <= summary["mind_reading_accuracy_high"]
    for name in ("metrics.csv", "stages.csv"):
        header = (run / name).read_text().splitlines()[0].replace("/", "_").split(",")
        assert "val_mind_reading_accuracy" in header
        assert "val_accuracy" not in header
    done = icot("evaluate", "run_dir=student", "speed.examples=0", "out=m", cwd=place)
    assert done.returncode == 0, done.stderr
    record = json.loads((place / "m" / "evaluation.json").read_text())
    assert record["title"].startswith("mind reading")
    found = find_runs([place])
    assert {run.folder.name: run.accuracy is None for run in found.runs} == {
        "teacher": False,
        "student": True,
        "emulator": True,
        "coupled": False,
    }


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["schedule=icot_si"], "method=emulator trains on questions and answers alone"),
        (["schedule=explicit"], "set schedule=no_cot, or leave the schedule out"),
        (["schedule.tokens_removed=3"], "set schedule=no_cot, or leave the schedule out"),
        (["schedule.chain_loss=0.5"], "schedule.chain_loss has no effect with method=emulator"),
    ],
)
def test_a_schedule_that_leaves_something_is_refused(place, overrides, said):
    run = ("method=emulator", "method.teacher=teacher", "hydra.run.dir=wrong", *overrides)
    assert_refused(icot("train", *COMMON, *run, cwd=place), said)


def test_no_checkpoint_holds_the_teacher_and_none_changes_it(place):
    of_student = list(weights(place / "student"))
    assert all(n.startswith(("model.model.", "model.maps.")) for n in of_student)
    count = len(weights(place / "teacher"))
    assert len(of_student) == count + 3 * 4  # two maps of weight and bias in each layer
    assert not any("teacher" in name for name in weights(place / "emulator"))


def test_coupling_starts_from_both_and_trains_both(place):
    still = ("optimizer.lr=1e-12", "optimizer.adamw_lr=1e-12", "trainer.max_steps=1")
    start, end = (
        weights(train(place, "still", *FURTHER["coupled"], *still)),
        weights(place / "coupled"),
    )
    unmoved = []
    for run in ("student", "emulator"):
        best = torch.load(place / run / "checkpoints" / "best.ckpt", weights_only=True)
        for name, value in best["state_dict"].items():
            coupled = name.replace("model.", f"model.{run}.", 1)
            assert torch.allclose(start[coupled], value, atol=1e-6)
            if torch.equal(end[coupled], value):
                unmoved.append(coupled)
    behind = ("ln_f", "components")  # what an emulator does not use, or one component alone
    assert all(any(part in name for part in behind) for name in unmoved), unmoved


def test_further_losses_of_the_emulator_while_coupling(place):
    """With the answer's loss scaled away, the emulator comes closer to the teacher's states."""
    both = ("method=coupled", "method.student=student", "method.emulator=emulator")
    further = ("method.teacher=teacher", "method.distance_weight=10", "method.emulator_stage=final")
    run = train(place, "with_teacher", *both, *further)
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/distance"]]
    far = [float(row["train/distance"]) for row in rows]
    summary = json.loads((place / "emulator" / "summary.json").read_text())
    assert far[0] == pytest.approx(summary["distance"], rel=0.2)
    assert far[-1] < far[0]
    assert not any("teacher" in name for name in weights(run))


def test_the_components_may_be_told_while_coupling(place):
    told = ("method.teacher=teacher", "method.component_weight=1")
    own = ("method.mixture_size=17", "method.temperature=0.5", "method.component_offset=1")
    train(place, "mixture", "method=emulator", *told, *own)
    both = ("method=coupled", "method.student=student", "method.emulator=mixture")
    run = train(place, "coupled_mixture", *both, *told)
    kept = KeptRun(run).cfg.method.arguments()
    assert [kept[name] for name in ("mixture_size", "temperature", "component_offset")] == [
        17,
        0.5,
        1,
    ]
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/component_loss"]]
    found = [float(row["train/component_loss"]) for row in rows]
    assert 0 < found[-1] < found[0]
    again = ("hydra.run.dir=coupled_mixture", "resume=auto")
    assert "is complete" in icot("train", *COMMON, *both, *told, *again, cwd=place).stdout
    other = icot(
        "train", *COMMON, *both, *told, *again, "method.mixture_size=18", cwd=place
    )  # fmt: skip
    assert_refused(other, "method.mixture_size is 17 there and 18 here")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method.mixture_size=2"], "method.mixture_size=2: the emulator emulator has 1"),
        (["method.distance_weight=1"], "method.distance_weight=1 needs the states of the teacher"),
        (["method.teacher=teacher"], "method.teacher has no effect"),
        (
            ["method.teacher=teacher", "method.component_weight=1"],
            "method.component_weight needs a component for each token, method.mixture_size=17",
        ),
        (
            ["method.teacher=teacher", "method.distance_weight=1", "method.fix_emulator=true"],
            "while the emulator is trained",
        ),
    ],
)
def test_further_losses_that_have_no_effect_are_refused(place, overrides, said):
    both = ("method=coupled", "method.student=student", "method.emulator=emulator")
    run = ("hydra.run.dir=wrong", *both, *overrides)
    assert_refused(icot("train", *COMMON, *run, cwd=place), said)


def test_the_published_text_has_one_separator(place):
    official = ("schedule=no_cot_official",)
    train(place, "student_1", "method=mind_reading", "method.teacher=teacher", *official)
    both = ("method=coupled", "method.student=student_1", "method.emulator=emulator")
    train(place, "coupled_1", *both, *official)
    assert_refused(
        icot("train", *COMMON, *both, "hydra.run.dir=wrong", cwd=place),
        "method.student=student_1: it was trained with 1 separators, this run has 2",
    )
    kept, (model, tokenizer) = restored(place / "coupled_1")
    method, options = build_method(kept.cfg.method)
    examples = replace(staged(kept, tokenizer), separators=1)
    found = [
        method.build_predictor(PredictorParts(model, (), 7, decode), options)
        .predict(examples)
        .tokens
        for decode in ("verify", "always")
    ]
    assert found[0] == found[1]
    eos = examples.eos_token_id
    assert all(eos not in row[:-1] for row in found[0])
    questions = [e.question for e in next(build_task(kept.cfg.task).chunks("valid"))]
    rows = [json.loads(r) for r in (place / "coupled_1" / "predictions.jsonl").open()]
    longest = examples.longest_target
    answers = load(place / "coupled_1").answer(questions, max_new_tokens=longest)
    assert answers == [row["prediction"] for row in rows]


@pytest.mark.parametrize("name", ["student", "coupled"])
def test_verification_and_decoding_write_the_same_texts(place, name):
    kept, (model, tokenizer) = restored(place / name)
    chosen = kept.cfg.method
    if name == "student":
        chosen = chosen.model_copy(update={"teacher": str(place / "teacher")})
    method, options = build_method(chosen)
    examples = staged(kept, tokenizer)
    found = [
        method.build_predictor(PredictorParts(model, (), 7, decode), options).predict(examples)
        for decode in ("verify", "always")
    ]
    assert found[0].tokens == found[1].tokens
    assert np.allclose(found[0].nll, found[1].nll, atol=1e-4)


def test_a_coupled_model_sees_the_question_alone(place):
    kept, (model, tokenizer) = restored(place / "coupled")
    examples = staged(kept, tokenizer)
    batch = examples.batch(np.arange(5))
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids).logits
        other = batch.input_ids.clone()
        for row, column in enumerate(batch.cot_start.tolist()):
            other[row, column:] = 5
        changed = model(input_ids=other).logits
    for row, column in enumerate(batch.cot_start.tolist()):
        assert torch.equal(logits[row, :column], changed[row, :column])
    method, options = build_method(kept.cfg.method)
    answers = method.build_predictor(PredictorParts(model, ()), options).answer(
        ["2 1 * 3 4"], tokenizer, max_new_tokens=8
    )
    assert len(answers) == 1


@pytest.mark.parametrize("name", FURTHER)
def test_a_resumed_run_equals_an_uninterrupted_one(place, name):
    short = train(place, f"{name}_short", *FURTHER[name], "trainer.max_steps=5")
    done = icot("train", f"resume={short}", "trainer.max_steps=12", cwd=place)
    assert done.returncode == 0, done.stderr
    whole, resumed = weights(place / name), weights(short)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_packed_rows_train_as_padded_ones(place):
    padded = losses(place / "student")
    packed = losses(train(place, "packed", *FURTHER["student"], "data.packing=true"))
    assert packed == pytest.approx(padded, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", FURTHER)
def test_two_processes_equal_one(place, name):
    exact = (*FURTHER[name], "optimizer=adamw", "optimizer.eps=1e-4", "trainer.max_steps=6")
    one = weights(train(place, f"{name}_one", *exact))
    of_one = ("trainer=cpu", "data.batch_size=16")
    pair = (*(text for text in COMMON if text not in of_one), *TWO_RANKS, "data.batch_size=8")
    for strategy in ("ddp", "fsdp"):
        run = (f"trainer={strategy}", f"hydra.run.dir={name}_{strategy}")
        done = icot("train", *pair, *exact, *run, cwd=place)
        assert done.returncode == 0, done.stderr
        two = weights(place / f"{name}_{strategy}")
        assert set(one) == set(two)
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-3, atol=2e-5, msg=key)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method.teacher=nowhere"], "method.teacher=nowhere: no such run directory"),
        (["method.teacher=student"], "a teacher is a run with schedule=explicit"),
        (["method.teacher=teacher", "model.config.n_layer=2"], "has n_layer=3, this one 2"),
        (["method.teacher=teacher", "model.config.n_layer=1"], "need at least two layers"),
        (["method.teacher=teacher", "task=mult3"], "task.digits=2, this run has 3"),
        (
            ["method.teacher=teacher", "method.subset=row"],
            "method.subset=row: did you mean top_row",
        ),
        (["method=emulator", "method.teacher=teacher", "model.compile=default"], "model.compile"),
        ([], "method.teacher"),
    ],
)
def test_unlike_runs_and_mistakes_are_one_message(place, overrides, said):
    run = ("method=mind_reading", "hydra.run.dir=wrong")
    assert_refused(icot("train", *COMMON, *run, *overrides, cwd=place), said)


def test_an_emulator_and_a_teacherless_student_answer_nothing(place):
    done = icot("evaluate", "run_dir=emulator", "speed.examples=0", "out=e", cwd=place)
    assert_refused(done, "an emulator answers no questions")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("student", "student answers only with the states of the gold chain"),
        ("emulator", "an emulator answers no questions"),
    ],
)
def test_what_has_nothing_to_vote_on_is_refused(place, name, said):
    vote = (f"run_dir={name}", "predictor=vote", "predictor.n=2", "speed.examples=0")
    done = icot("evaluate", *vote, f"out=vote_{name}", cwd=place)
    assert_refused(done, said)


def test_an_exported_pair_is_loaded_and_answers_as_the_run(place):
    done = icot("export", "run_dir=coupled", "out=pair", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "the folder writes the same for all 40" in done.stdout
    pair = place / "pair"
    card = (pair / "README.md").read_text()
    assert "There is no plain pipeline for the whole" in card
    run, loaded = load(place / "coupled"), load(pair)
    questions = [e.question for e in next(build_task(run.cfg.task).chunks("valid"))]
    answers = loaded.answer(questions, max_new_tokens=7)
    assert answers == run.answer(questions, max_new_tokens=7)
    assert "max_new_tokens=7" in card
    assert repr([answers[0]]) in card
    assert all(
        torch.equal(value, other)
        for value, other in zip(
            restored(place / "coupled")[1][0].state_dict().values(),
            restored(pair)[1][0].state_dict().values(),
            strict=True,
        )
    )
    depths = {name: config["n_layer"] for name, config in configs_of(pair).items()}
    assert depths == {"student": 3, "emulator": 2}
    alone(
        "from transformers import AutoModelForCausalLM as M, AutoTokenizer\n"
        "for name in ('student', 'emulator'):\n"
        "    _, info = M.from_pretrained(name, output_loading_info=True)\n"
        "    assert not info['missing_keys'] and not info['unexpected_keys'], info\n"
        "    AutoTokenizer.from_pretrained(name)\n",
        pair,
    )
    measured = icot("evaluate", "run_dir=pair", "speed.examples=0", "out=again", cwd=place)
    assert measured.returncode == 0, measured.stderr
    found = json.loads((place / "again" / "evaluation.json").read_text())
    assert found["accuracy"] == json.loads((place / "coupled/summary.json").read_text())["accuracy"]
    every = icot("evaluate", "run_dir=pair", "stage=all", "speed.examples=0", "out=all", cwd=place)
    assert every.returncode == 0, every.stderr
    where = {"output_dir": "", "cache_dir": str(place / "cache")}
    page = make_service(validate({"run_dir": str(pair), "paths": where}, DemoConfig))
    (writer,) = page.writers
    assert (writer.title, writer.left) == ("coupled", 0)
    ready = Shelf(1).take(writer)
    asked = Example(questions[0], "", "")
    assert ready.text(list(ready.write(asked))) == answers[0]
    (pair / "rest.safetensors").write_bytes(b"torn")
    again = icot("evaluate", "run_dir=pair", "speed.examples=0", "out=torn", cwd=place)
    assert_refused(again, "cannot be read as an exported model of several parts")


def configs_of(pair):
    return {n: json.loads((pair / n / "config.json").read_text()) for n in ("student", "emulator")}


@pytest.mark.parametrize("name", ["student", "emulator"])
def test_parts_alone_are_not_exported(place, name):
    done = icot("export", f"run_dir={name}", f"out={name}_alone", cwd=place)
    assert_refused(done, "is not a model that answers by itself")
