"""At which stage weights are judged: "everything removed" holds whatever chains the data have."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

import icot
from icot.evaluation.loading import Source, choose_examples, load_weights, restore_weights
from icot.models.introspection import config_of
from icot.runs.checkpoints import is_fully_internalized, select_stage
from icot.runs.kept_run import KeptRun
from icot.tasks.base import Example
from icot.tasks.multiplication import Multiplication, example
from icot.tasks.text_files import TextFiles

OLD = Path(__file__).parents[1] / "fixtures" / "run_0_1_0" / "run"


def judged(run: Path, stage: str, folder: Path, **files: list[Example]) -> dict[str, dict]:
    """What the evaluation of a stage says of the lines of each file, by its name."""
    places = {"output_dir": "", "cache_dir": str(folder / "cache")}
    found = {}
    for name, lines in files.items():
        data = folder / f"{name}.txt"
        data.write_text("".join(line.line() + "\n" for line in lines))
        found[name] = icot.load(run).evaluate(
            stage,
            data_file=str(data),
            speed={"examples": 0},
            out=str(folder / name),
            paths=places,
        )
    return found


@pytest.mark.parametrize(
    ("stage", "chain", "removed", "internalized"),
    [
        ("final", "1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9", 18, True),  # longer than in training
        ("3", "1 2", 2, False),  # nothing is left of these chains, but the model writes chains
    ],
)
def test_weights_are_judged_at_their_stage_on_other_chains(
    small_run, tmp_path, stage, chain, removed, internalized
):
    own = [example(a, b, 2) for a, b in ((12, 34), (56, 78), (99, 99))]
    other = [replace(e, cot=chain) for e in own]
    found = judged(small_run, stage, tmp_path, own=own, other=other)
    assert (found["other"]["tokens_removed"], found["other"]["fully_internalized"]) == (
        removed,
        internalized,
    )
    if internalized:
        assert found["other"]["perplexity"] == pytest.approx(found["own"]["perplexity"], rel=1e-6)
        assert found["own"]["fully_internalized"] is True


@pytest.mark.parametrize("stage", ["0", "final"])
def test_examples_without_a_chain_leave_room_for_the_one_that_the_model_writes(
    small_run, tmp_path, stage
):
    """As in multiple choice, where only sampled rationales have one."""
    own = [example(a, 34, 2) for a in (12, 56)]
    found = judged(small_run, stage, tmp_path, whole=own, bare=[replace(e, cot="") for e in own])
    same = ("accuracy", "tokens_per_example", "fully_internalized")
    whole, bare = ({key: found[name][key] for key in same} for name in ("whole", "bare"))
    assert bare == whole
    writes_a_chain = stage == "0"
    assert (found["bare"]["perplexity"] is None) is writes_a_chain
    assert (found["bare"]["token_accuracy"] is None) is writes_a_chain
    kept = KeptRun(small_run)
    weights = load_weights(kept, select_stage(kept, stage)[0], Multiplication(2), "cpu")
    choose = partial(choose_examples, weights, tokens_removed=None, limit=None, cache_dir=tmp_path)
    files = {n: TextFiles(tmp_path, None, f"{n}.txt", None) for n in ("whole", "bare")}
    sources = [Source.own(file, "valid") for file in files.values()]
    limits = [choose(source).examples.longest_target for source in sources]
    assert limits == [15 if writes_a_chain else 7] * 2


@pytest.mark.parametrize(("longest", "expected"), [(8, False), (4, True), (None, None)])
def test_what_0_1_0_did_not_write_into_its_weights_its_summary_tells(tmp_path, longest, expected):
    run = tmp_path / "run"
    shutil.copytree(OLD, run)
    summary = json.loads((run / "summary.json").read_text())
    text = json.dumps({**summary, "longest_cot": longest})
    (run / "summary.json").write_text("" if longest is None else text)
    kept = KeptRun(run)
    assert is_fully_internalized(kept, select_stage(kept, "final")[0]) is expected


def test_evaluation_uses_the_attention_that_training_measured(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["attn_implementation"] = None
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    environment = json.loads((run / "environment.json").read_text())
    for measured, expected in (("eager", "eager"), ("sdpa", "sdpa"), ("org/kernel", "sdpa")):
        text = json.dumps({**environment, "attn_implementation": measured})
        (run / "environment.json").write_text(text)
        kept = KeptRun(run)
        task = Multiplication(2, train_size=70, valid_size=20, test_size=5, seed=1)
        model, _ = restore_weights(kept, select_stage(kept, "final")[0], task)
        assert config_of(model)._attn_implementation == expected
