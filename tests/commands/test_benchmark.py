"""The benchmark command, with figures that are not judged: machines differ."""

import json
import time

import pytest
import torch

from icot.benchmarks.plain_loop import remove_chain_tokens
from icot.benchmarks.timing import time_alternately
from tests.conftest import SMALL, icot


@pytest.mark.parametrize("stage", [["stage=0"], []])
def test_validation_is_measured_three_ways_on_the_same_weights(small_run, tmp_path, stage):
    done = icot(
        "benchmark",
        "what=validation",
        f"run_dir={small_run}",
        *stage,
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


def test_sampling_is_timed_against_generate(tmp_path):
    done = icot(
        "benchmark", "what=sample", *SMALL, "examples=16", "repeats=1", "paths.cache_dir=cache",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "benchmark-sample.json").read_text())
    assert found["samples"] == {"batches": 16, "one by one": 8}
    rates = found["tokens_per_second"]
    assert found["ratios"]["batches over one by one"] == rates["batches"] / rates["one by one"]


NO_DROPOUT = [f"model.config.{name}_pdrop=0.0" for name in ("resid", "embd", "attn")]


def found_in(folder, what: str, *overrides: str) -> dict:
    done = icot(
        "benchmark", f"what={what}", *SMALL, *overrides, "paths.cache_dir=cache", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / f"benchmark-{what}.json").read_text())


def test_the_plain_loop_makes_the_same_updates(tmp_path):
    found = found_in(
        tmp_path, "step", *NO_DROPOUT, "optimizer=adamw", "trainer.precision=32-true", "repeats=49",
        "schedule.keep_position_ids=false",
    )  # fmt: skip
    assert list(found["stages"]) == ["0", "4", "8"]
    for stage in found["stages"].values():
        assert stage["largest_loss_difference"] < 1e-5
        assert {len(times) for times in stage["seconds"].values()} == {49}
        assert stage["flops"] > 0
        assert stage["ceiling_flops_per_second"] > 0
        assert set(stage["utilisation"]) == {"ours", "plain"}
        assert min(stage["utilisation"].values()) > 0


def test_memory_is_that_of_a_process_each(tmp_path):
    found = found_in(tmp_path, "memory", "removed=[4]")
    assert set(found["megabytes"]) == {"model alone", "ours", "plain"}
    assert min(found["megabytes"].values()) > 50


def test_tokenizing_and_the_second_start(tmp_path):
    found = found_in(tmp_path, "data", "lines=200", "repeats=2")
    assert found["lines"] == 200
    assert set(found["ratios"]) == {"tokenizing", "second start"}


def test_requests_in_flight_are_counted_at_the_server(tmp_path):
    found = found_in(tmp_path, "endpoint", "examples=16", "repeats=1")
    assert set(found["in_flight"]) == {"icot", "bare threads"}
    for way, number in found["in_flight"].items():
        assert 1 < number <= found["concurrency"] == 8
        (seconds,) = found["seconds"][way]
        assert seconds * number >= 16 * found["answer_seconds"]
    assert found["ratios"]["icot over the least time"] > 1


@pytest.mark.slow
def test_scaling_draws_time_beside_arithmetic(tmp_path):
    found = found_in(tmp_path, "scaling", "repeats=1")
    assert {axis: len(points) for axis, points in found["curves"].items()} == {
        "digits": 7, "batch size": 4, "width": 4, "tokens removed": 5,
    }  # fmt: skip
    for axis, points in found["curves"].items():
        flops = [point["flops"] for point in points]
        assert min(point["seconds"] for point in points) > 0
        rising = {"digits": 1, "batch size": 0, "width": 1, "tokens removed": -1}[axis]
        assert sorted(flops, reverse=rising < 0) == flops
        assert (len(set(flops)) > 1) == (rising != 0)
        assert f"time over arithmetic, {axis}" in found["ratios"]
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.slow
def test_start_counts_whole_processes(tmp_path):
    found = found_in(tmp_path, "start", "repeats=1")
    assert set(found["median_seconds"]) == {"ours", "ours, second start", "plain"}
    assert min(found["median_seconds"].values()) > 1
    assert set(found["ratios"]) == {"first start", "second start"}


def test_the_plain_loop_cuts_the_chain_as_ours_does(tmp_path):
    eos = 0
    ids = torch.tensor([[5, 6, eos, 1, 2, 3, eos, 9, 8, eos], [5, eos, 1, eos, 9, eos, *[eos] * 4]])
    labels = ids.clone()
    labels[0, :3] = labels[1, :2] = labels[1, 6:] = -100
    short, kept = remove_chain_tokens(ids, labels, 2, eos)
    assert short.tolist() == [[5, 6, eos, 3, eos, 9, 8, eos], [5, eos, eos, 9, eos, *[eos] * 3]]
    assert kept[0].tolist() == [-100, -100, -100, 3, eos, 9, 8, eos]
    assert kept[1].tolist() == [-100, -100, eos, 9, eos, -100, -100, -100]


def test_turns_alternate():
    order = []
    ways = {name: lambda name=name: (order.append(name), time.sleep(0.001)) for name in "ab"}
    seconds = time_alternately(ways, 3)
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
