"""The benchmark command, with figures that are not judged: machines differ."""

import json
import time

import pytest
from icot.benchmarks.turns import by_turns

from tests.conftest import SMALL, icot


def test_validation_is_measured_three_ways_on_the_same_weights(small_run, tmp_path):
    done = icot(
        "benchmark",
        "what=validation",
        f"run_dir={small_run}",
        "stage=0",
        "repeats=2",
        "paths.cache_dir=cache",
        "out=b",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "b" / "benchmark-validation.json").read_text())
    assert len(set(found["accuracy"].values())) == 1, "all three ways score the same"
    assert {len(times) for times in found["seconds"].values()} == {2}
    assert found["examples"] == 40
    assert set(found["ratios"]) == {
        "verify over always",
        "always over generate",
        "verify over generate",
    }
    assert "always over generate" in done.stdout


def test_decoding_is_timed_over_the_answer_alone(tmp_path):
    done = icot(
        "benchmark",
        "what=decode",
        *SMALL,
        "examples=5",
        "seconds=1",
        "paths.cache_dir=cache",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "benchmark-decode.json").read_text())
    # Chain of 8, mark, answer of 4, two separators; whatever random weights write.
    written = {name: t["tokens_per_example"] for name, t in found["timings"].items()}
    assert written == {"explicit CoT": 15, "fully internalized": 7, "No CoT": 7}
    assert set(found["ratios"]) == {"explicit CoT over No CoT", "fully internalized over No CoT"}


def test_turns_alternate():
    order = []
    ways = {name: lambda name=name: (order.append(name), time.sleep(0.001)) for name in "ab"}
    seconds = by_turns(ways, 3)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert all(len(times) == 3 and min(times) >= 0.001 for times in seconds.values())


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "what must be set"),
        (["what=step2"], "choose one of step, memory, validation"),
        (["what=validation"], "set run_dir="),
        (["what=validation", "run_dir=nowhere"], "no such directory"),
    ],
)
def test_bad_input_ends_in_one_clear_line(tmp_path, overrides, expected):
    done = icot("benchmark", *overrides, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in done.stderr
