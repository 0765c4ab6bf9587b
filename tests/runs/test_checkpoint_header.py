"""What checkpoints say of themselves, those of version 0.1.0 too; one of its runs goes on."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from icot.errors import RunError
from icot.runs import checkpoint_file
from icot.runs.checkpoint_header import Header, StageMark, read_header, upgrade
from icot.runs.checkpoints import KeptRun, select_stage
from icot.runs.position import End, Position, find_position
from tests.conftest import icot

OLD = Path(__file__).parents[1] / "fixtures" / "run_0_1_0"


@pytest.fixture
def old(tmp_path):
    shutil.copytree(OLD / "run", tmp_path / "run")
    return tmp_path


def test_a_header_survives_its_round_trip():
    mark = StageMark(3, 5, everything_removed=False)
    header = Header("icot_si", True, 9, 1, 11, mark, StageMark(4, 6, True), mark, 7)
    assert read_header({"icot": header.as_dict()}) == header
    bare = Header("mine", False, 0, 0, 0)
    assert read_header({"icot": bare.as_dict()}) == bare
    assert read_header({"state_dict": {}}) is None


def test_another_format_is_not_read():
    told = Header("icot_si", True, 9, 1, 11).as_dict()
    with pytest.raises(ValueError, match="format 2"):
        read_header({"icot": {**told, "format": 2}})


def test_what_0_1_0_wrote_says_the_same_now():
    """Seven batches; the last of them ended stage 4, which had removed 4 tokens."""
    content = checkpoint_file.load(OLD / "run" / "checkpoints" / "last.ckpt")
    assert read_header(content) == Header(
        method="icot_si",
        resumes=True,
        step=7,
        epoch=1,
        batches=7,
        trained_at=StageMark(4, 4),
        next_stage=StageMark(5, 5),
    )
    callbacks = upgrade(content)["callbacks"]
    assert callbacks["clock"] == {"batches": 7, "tokens": 1916, "dropped": 0}
    assert callbacks["stages"]["stage"]["index"] == 5
    assert "batches" not in callbacks["stages"]["stage"]
    weights = checkpoint_file.load(OLD / "run" / "checkpoints" / "stage-0002.ckpt")
    header = read_header(weights)
    assert header is not None
    assert (header.resumes, header.trained_at) == (False, StageMark(2, 2))


def test_what_0_1_0_said_of_a_collapse_and_of_an_end():
    content = checkpoint_file.load(OLD / "run" / "checkpoints" / "last.ckpt")
    good = {"index": 2, "tokens_removed": 2, "batches": 4, "batches_in_stage": 1,
            "accuracy": 0.0, "warming_up": False}  # fmt: skip
    content["callbacks"]["CollapseWatch"] = {"best": 0.9, "below": 1, "good": good, "seen": 6}
    content["callbacks"]["Finish"] = {"begun": 6}
    header = read_header(content)
    assert header is not None
    assert header.last_good == StageMark(2, 2)
    assert header.everything_removed_at_step == 6
    assert "batches" not in upgrade(content)["callbacks"]["collapse_watch"]["good"]


def test_the_run_is_read_as_any_other(old):
    run = KeptRun(old / "run")
    assert [(c.name, c.stage, c.tokens_removed) for c in select_stage(run, "all")] == [
        ("2", 2, 2),
        ("final", 4, 4),
    ]
    path = old / "run" / "checkpoints" / "last.ckpt"
    assert find_position(old / "run", End(), True) == Position(path, 7, 1, 7, 5, None)
    with pytest.raises(RunError, match="has already done 7 steps"):
        find_position(old / "run", End(max_steps=6), True)
    shutil.copy(old / "run" / "checkpoints" / "stage-0002.ckpt", path)
    with pytest.raises(RunError, match="a run cannot be resumed from it"):
        find_position(old / "run", End(), True)


def test_the_run_is_evaluated(old):
    done = icot(
        "evaluate", "run_dir=run", "stage=all", "speed.examples=0", "paths.cache_dir=cache", cwd=old
    )
    assert done.returncode == 0, done.stderr
    assert (old / "run" / "evaluation.json").is_file()


def test_the_run_goes_on_and_ends_as_one_that_was_never_stopped(old):
    done = icot("train", "resume=run", "trainer.max_steps=18", "paths.cache_dir=cache", cwd=old)
    assert done.returncode == 0, done.stderr
    found = torch.load(old / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    expected = torch.load(OLD / "whole" / "weights.pt", weights_only=True)
    assert found["icot"]["step"] == 15
    assert list(found["state_dict"]) == list(expected)
    # Bit for bit on the machine that made it. The keys' bias changes no output, so its gradient is
    # nothing but rounding, which AdamW enlarges.
    for weights in (found["state_dict"], expected):
        weights["model.transformer.h.0.attn.c_attn.bias"][8:16] = 0
    for name, weight in expected.items():
        torch.testing.assert_close(found["state_dict"][name], weight, rtol=1e-4, atol=1e-5)
    for name in ("metrics.csv", "stages.csv"):
        ours, theirs = (_rows(folder / name) for folder in (old / "run", OLD / "whole"))
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys()
            for key in one.keys() - {"seconds"}:
                a, b = one[key], other[key]
                assert a == b or float(a) == pytest.approx(float(b), rel=1e-3, abs=1e-4), key


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
