"""The tasks that are drawn by a program, against computations made another way."""

import ast
import re
from functools import cache
from itertools import chain, permutations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icot.errors import DataError
from icot.tasks.automaton import Automaton
from icot.tasks.base import SPLITS, Example
from icot.tasks.generated import GeneratedTask
from icot.tasks.lines import parse_line, write_line
from icot.tasks.modular import Modular
from icot.tasks.parity import Parity
from icot.tasks.prosqa import KINDS, PEOPLE, ProsQA
from icot.tasks.sums import Sum

SIZES = {"train_size": 9_800, "valid_size": 100, "test_size": 100}


def check_parity(task: Parity, example: Example) -> None:
    bits = np.array(example.question.split(), dtype=int)
    assert len(bits) == task.width
    sums = bits[task.positions].cumsum() % 2
    assert example.cot.split() == [str(x) for x in sums]
    assert example.answer == example.cot.split()[-1]


@cache
def matrix(text: str) -> np.ndarray:
    """The permutation matrix that sends i to the digit at i."""
    return np.eye(len(text), dtype=int)[[int(d) - 1 for d in text]]


def check_automaton(task: Automaton, example: Example) -> None:
    letters, states = example.question.split(), example.cot.split()
    assert len(letters) == len(states)
    assert len(letters) in task.lengths
    assert states[-1] == example.answer
    machine, size = task.parameters["machine"], task.parameters["size"]
    if machine in ("s3", "s5"):
        product = np.eye(int(machine[1]), dtype=int)
        for letter, state in zip(letters, states, strict=True):
            product = product @ matrix(letter)
            assert (product == matrix(state)).all()
    elif machine == "cyclic":
        assert states == [str(s) for s in np.cumsum([int(x) for x in letters]) % size]
    elif machine == "flip_flop":
        written = re.sub(r"-", "", "0 " + example.question).split()
        assert example.answer == written[-1]
    else:
        cells = np.array([0, *map(int, states)])
        wanted = np.clip(cells[:-1] + np.where(np.array(letters) == ">", 1, -1), 0, size - 1)
        assert (cells[1:] == wanted).all()


def check_modular(task: Modular, example: Example) -> None:
    tree = ast.parse(example.question, mode="eval").body
    values = []

    def visit(node: ast.expr) -> None:
        if isinstance(node, ast.BinOp):
            visit(node.left)
            visit(node.right)
            values.append(eval(ast.unparse(node)) % task.modulus)

    visit(tree)
    assert example.cot.split() == [str(v) for v in values]
    assert len(values) == task.operations
    assert example.answer == str(eval(example.question) % task.modulus) == str(values[-1])


def number(text: str) -> int:
    return int(text.replace(" ", "")[::-1])


def check_sum(task: Sum, example: Example) -> None:
    numbers = [number(text) for text in example.question.split("+")]
    assert len(numbers) == task.numbers
    assert all(len(text.split()) == task.digits for text in example.question.split("+"))
    sums = [number(text) for text in example.cot.split(";")]
    assert sums == [sum(numbers[:i]) for i in range(2, len(numbers) + 1)]
    assert example.cot.split(";")[-1].strip() == example.answer
    prose = task.prose(example)
    assert prose.question == " + ".join(map(str, numbers))
    steps = re.findall(r"(\d+) \+ (\d+) = (\d+)", prose.cot)
    assert [tuple(map(int, step)) for step in steps] == list(
        zip([numbers[0], *sums], numbers[1:], sums, strict=False)
    )
    assert prose.answer == str(sums[-1])


def check_prosqa(task: ProsQA, example: Example) -> None:
    facts, question = re.fullmatch(r"(.*\.) (Is .*\?)", example.question).groups()
    edges = re.findall(r"(?:Every )?(\w+) is a (\w+)\.", facts)
    assert " ".join(f"{'Every ' * (a in KINDS)}{a} is a {b}." for a, b in edges) == facts
    person, *options = re.fullmatch(r"Is (\w+) a (\w+) or (\w+)\?", question).groups()
    nodes = {node: i for i, node in enumerate(dict.fromkeys(chain.from_iterable(edges)))}
    assert len([n for n in nodes if n in KINDS]) == task.kinds
    step = np.zeros((len(nodes), len(nodes)), dtype=np.int64)
    for a, b in edges:
        step[nodes[a], nodes[b]] += 1
    assert step.max() == 1, "an edge stands twice"
    walks = [np.eye(len(nodes), dtype=np.int64)]
    for _ in nodes:
        walks.append(walks[-1] @ step)
    assert not walks[-1].any(), "a cycle"
    target = example.answer.removeprefix(f"{person} is a ").removesuffix(".")
    (other,) = set(options) - {target}
    counts = [int(w[nodes[person], nodes[target]]) for w in walks]
    hops = next(i for i, count in enumerate(counts) if count)
    assert counts[hops] == 1
    assert hops in task.hops
    assert not any(w[nodes[person], nodes[other]] for w in walks)
    path = re.findall(r"(?:Every )?(\w+) is a (\w+)\.", example.cot)
    assert len(path) == hops
    assert set(path) <= set(edges)
    assert [path[0][0], *(b for _, b in path)] == [*(a for a, _ in path), target]
    assert path[0][0] == person
    assert person in PEOPLE


TASKS = [
    (Parity(16, **SIZES), check_parity),
    (Parity(24, 5, 3, **SIZES), check_parity),
    (Automaton("s3", 12, **SIZES), check_automaton),
    (Automaton("s5", 6, 3, **SIZES), check_automaton),
    (Automaton("cyclic", 9, size=7, **SIZES), check_automaton),
    (Automaton("flip_flop", 12, **SIZES), check_automaton),
    (Automaton("grid", 18, **SIZES), check_automaton),
    (Modular(**SIZES), check_modular),
    (Sum(**SIZES), check_sum),
    (ProsQA(min_hops=3, **SIZES), check_prosqa),
]


@pytest.mark.parametrize(("task", "check"), TASKS, ids=lambda x: getattr(x, "name", ""))
def test_ten_thousand_examples_are_right_and_no_question_stands_twice(task, check):
    examples = [e for split in SPLITS for part in task.chunks(split) for e in part]
    assert len(examples) == 10_000 == sum(task.size(split) for split in SPLITS)
    for example in examples:
        check(task, example)
    assert len({e.question for e in examples}) == 10_000
    assert all(parse_line(write_line(e)) == e for e in examples[:100])
    symbols = task.symbols()
    if symbols is not None:
        seen = set(" ".join(f"{e.question} {e.cot} {e.answer}" for e in examples).split())
        assert seen <= set(symbols)
        assert set(symbols) - seen <= {"####"}
    assert all(task.difficulty(e) for e in examples[:100])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_examples_of_any_size_are_right(data):
    def whole(low, high):
        return data.draw(st.integers(low, high))

    sizes = {"train_size": 1, "valid_size": 0, "test_size": 0, "seed": whole(0, 2**32)}
    kind = data.draw(st.sampled_from(["parity", "automaton", "modular", "sum", "prosqa"]))
    if kind == "parity":
        bits = whole(1, 40)
        task, check = Parity(bits, whole(1, bits), whole(0, 5), **sizes), check_parity
    elif kind == "automaton":
        length = whole(1, 40)
        machine = data.draw(st.sampled_from(["cyclic", "s3", "s5", "flip_flop", "grid"]))
        size = whole(2, 12) if machine in ("cyclic", "grid") else None
        task = Automaton(machine, length, whole(1, length), size, **sizes)
        check = check_automaton
    elif kind == "modular":
        task, check = Modular(whole(1, 20), whole(2, 30), **sizes), check_modular
    elif kind == "sum":
        task, check = Sum(whole(2, 12), whole(1, 12), **sizes), check_sum
    else:
        hops = whole(1, 8)
        kinds = whole(max(6, 2 * hops), 36)
        task, check = ProsQA(kinds, hops, whole(1, hops), **sizes), check_prosqa
    ((example,),) = task.chunks("train")
    check(task, example)


def test_the_examples_of_the_docstrings():
    parity = Parity(6, 3)
    parity.positions = [1, 2, 5]
    assert parity.example([1, 0, 1, 1, 0, 1]).line() == "1 0 1 1 0 1||0 1 0 #### 0"
    assert (
        Automaton("s3", 3).example(["213", "231", "213"]).line()
        == "213 231 213||213 321 312 #### 312"
    )
    assert Sum(3, 2).example([21, 94, 50]).line() == "1 2 + 4 9 + 0 5||5 1 1 ; 5 6 1 #### 5 6 1"
    check_modular(Modular(4), Example("( 3 + 4 ) * ( 6 - ( 2 * 5 ) )", "0 3 3 0", "0"))


def test_a_seed_a_size_and_a_parameter_each_make_another_fingerprint():
    tasks = [Parity(), Parity(seed=1), Parity(17), Parity(16, 15), Parity(train_size=5)]
    assert len({str(t.fingerprint("train")) for t in tasks}) == len(tasks)
    assert Parity().fingerprint("train") == Parity(16, 16).fingerprint("train")


def test_the_held_out_splits_do_not_depend_on_the_training_split():
    small, large = (Sum(train_size=n) for n in (10, 1000))
    for split in ("valid", "test"):
        assert list(small.chunks(split)) == list(large.chunks(split))
    (few,), (many,) = small.chunks("train"), large.chunks("train")
    assert many[:10] == few


def test_hidden_bits_stay_where_they_are_behind_distractors():
    short, long = Parity(16, 8), Parity(16, 8, distractors=8)
    assert short.positions == long.positions
    assert len(short.positions) == 8


def test_a_small_task_has_a_tenth_for_each_held_out_split_and_the_rest_to_train_on():
    task = Automaton("grid", 8)
    assert [task.size(s) for s in SPLITS] == [206, 25, 25]
    examples = [e for split in SPLITS for part in task.chunks(split) for e in part]
    assert len({e.question for e in examples}) == 256
    with pytest.raises(ValueError, match="256 different questions; train 300"):
        Automaton("grid", 8, train_size=300)


def test_a_task_that_runs_out_of_questions_says_so(monkeypatch):
    class Coin(GeneratedTask):
        name = "coin"

        def draw(self, rng: Random) -> Example:
            side = str(rng.getrandbits(1))
            return Example(side, side, side)

    monkeypatch.setattr("icot.tasks.generated.PATIENCE", 100)
    with pytest.raises(DataError, match="coin: found only 2 different questions"):
        list(Coin({}, None, 5, 0, 0, 1).chunks("train"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Parity(4, 5), "hidden must be from 1 to the number of bits, 4, not 5"),
        (lambda: Automaton("s4"), "machine must be one of cyclic"),
        (lambda: Automaton("s3", size=4), "size is of cyclic and grid"),
        (lambda: Automaton("s3", 5, 6), "min_length must be from 1 to the length, 5, not 6"),
        (lambda: Modular(0), "operations must be at least 1"),
        (lambda: Sum(1), "numbers must be at least 2"),
        (lambda: ProsQA(37), "kinds must be from 6 to 36, not 37"),
        (lambda: ProsQA(8, 5), "at most half of the kinds"),
    ],
)
def test_impossible_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_all_elements_of_a_group_are_letters():
    task = Automaton("s5", 4)
    assert sorted(task.letters) == sorted("".join(p) for p in permutations("12345"))


@pytest.mark.parametrize("task", [Parity(16, hidden=4, **SIZES), Automaton("s3", 6, 4, **SIZES)])
def test_quantities_are_what_the_chain_writes(task):
    for example in next(iter(task.chunks("test")))[:20]:
        assert [str(q) for q in task.quantities(example).values()] == example.cot.split()
    if isinstance(task, Parity):
        assert list(task.quantities(example)) == [f"parity {i + 1}" for i in task.positions]
