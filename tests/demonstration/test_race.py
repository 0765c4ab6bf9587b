"""Models answer side by side, in turns, and write what ``icot.evaluate`` says they write."""

import gc
import json
import shutil
import weakref

import pytest

from icot.demonstration.race import answer_side_by_side, take_turns
from icot.demonstration.writers import Shelf
from icot.inference import greedy
from tests.conftest import icot
from tests.demonstration.pages import service


@pytest.fixture(scope="module")
def small(small_run):
    return service(small_run)


def last(steps):
    *_, columns = steps
    return columns


def test_turns_are_a_token_each_until_a_stream_has_ended():
    streams = {"a": iter([1, 2]), "b": iter([3, 4, 5])}
    turns = [(key, token) for key, token, _ in take_turns(streams)]
    assert turns == [("a", 1), ("b", 3), ("a", 2), ("b", 4), ("a", None), ("b", 5), ("b", None)]


def test_answers_equal_those_of_an_evaluation(small, small_run):
    done = icot(
        "evaluate", "run_dir=run", "stage=all", "speed.examples=0", "out=scored",
        "paths.cache_dir=cache", cwd=small_run.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    writers = small.writers
    assert [(w.title, w.left) for w in writers] == [(f"stage {i}", 8 - i) for i in range(9)]
    scored = [
        (small_run.parent / "scored" / f"predictions-{i}.jsonl").read_text().splitlines()
        for i in range(len(writers))
    ]
    for i, example in enumerate(writers[0].held_out.values()):
        typed = small.questions.type(example, writers[0].task)
        columns = last(answer_side_by_side(writers, small.questions, typed, small.shelf))
        for column, lines in zip(columns, scored, strict=True):
            expected = json.loads(lines[i])
            assert column.text == expected["prediction"]
            assert column.target == expected["target"]
            assert column.correct == expected["correct"]
            assert len(column.tokens) == expected["tokens"]
            assert 0 < column.first <= column.seconds


def test_the_tally_counts_as_an_evaluation_does(small):
    (*_, (tally, _, failed)) = small.count(small.longest, {})
    (*_, (twice, table, failed)) = small.count(small.longest, tally)
    assert failed == ""
    assert [count.asked for count in twice.values()] == [20, 20]  # the whole chain, and none
    for writer in small.choose(small.longest):
        ready = small.shelf.take(writer)
        everything = ready.judge(range(len(ready.examples)))
        assert everything.n == 40
        assert twice[writer.name].right <= 20
    assert "of 20" in table


def test_runs_whose_folders_have_one_name_are_told_apart(small_run, tmp_path):
    folders = [tmp_path / "no_cot" / "0", tmp_path / "no_cot_b" / "0"]
    for folder in folders:
        shutil.copytree(small_run, folder)
    page = service(*folders)
    (*_, (tally, _, _)) = page.count(0, {})
    assert {name: count.asked for name, count in tally.items()} == {
        "no_cot/0, stage 8": 10,
        "no_cot_b/0, stage 8": 10,
    }
    (*_, (_, columns, curve)) = page.answer(*page.first(), 0)
    for shown in (columns, curve):
        assert "no_cot/0" in shown
        assert "no_cot_b/0" in shown


def test_weights_that_do_not_fit_answer_after_the_others(small, small_run):
    typed = small.first()
    shelf = Shelf(keep=1)
    one_by_one = last(answer_side_by_side(small.writers, small.questions, typed, shelf))
    together = last(answer_side_by_side(small.writers, small.questions, typed, Shelf(keep=9)))
    assert [c.text for c in one_by_one] == [c.text for c in together]
    assert all(column.done for column in one_by_one)
    assert len(shelf._loaded) == 1


def test_a_visitor_who_leaves_frees_what_was_held(small, monkeypatch):
    caches = []
    made = greedy.Cache.__init__

    def remember(self, *args, **kwargs):
        made(self, *args, **kwargs)
        caches.append(weakref.ref(self))

    answer = answer_side_by_side(small.writers, small.questions, small.first(), small.shelf)
    list(zip(range(2), answer, strict=False))  # loaded and warm
    monkeypatch.setattr(greedy.Cache, "__init__", remember)
    answer = answer_side_by_side(small.writers, small.questions, small.first(), small.shelf)
    for _ in range(6):
        next(answer)
    assert any(cache() is not None for cache in caches)
    answer.close()
    gc.collect()
    assert all(cache() is None for cache in caches)


def test_the_slider_chooses_the_nearest_stage(small, small_run):
    assert [w.left for w in small.choose(3.2)] == [8, 3, 0]
    assert [w.left for w in small.choose(0)] == [8, 0]
    assert small.step == 1
    assert [w.left for w in service(small_run, small_run).choose(5)] == [5, 5]


def test_a_budget_tells_the_model_how_much_to_write(tmp_path):
    done = icot(
        "train", "task=mult2", "task.train_size=300", "task.valid_size=20", "task.test_size=10",
        "model.attn_implementation=eager", "model.config.n_layer=1", "model.config.n_embd=32",
        "model.config.n_head=2", "data.batch_size=16", "trainer=cpu", "optimizer.decay_steps=0",
        "schedule=dial", "schedule.stops=[4,8]", "schedule.patience=10", "trainer.max_steps=60",
        "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = icot("evaluate", "run_dir=run", "budget=[0,3,8]", "speed.examples=0", "out=scored",
                cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = service(tmp_path / "run")
    assert [w.left for w in page.writers] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    writers = [w for w in page.writers if w.left in (0, 3, 8)]
    for i, example in enumerate(writers[0].held_out.values()):
        typed = page.questions.type(example, writers[0].task)
        for column in last(answer_side_by_side(writers, page.questions, typed, page.shelf)):
            path = tmp_path / "scored" / f"predictions-budget-{column.writer.left}.jsonl"
            assert column.text == json.loads(path.read_text().splitlines()[i])["prediction"]
