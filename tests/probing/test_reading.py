"""Known cases: what is there is found where it is and nowhere else, the control task at chance."""

import numpy as np
import pytest
import torch

from icot.probing.linear import ABSENT, encode
from icot.probing.places import names_of, places_before
from icot.probing.questions import Targets, find_targets, question_tokens
from icot.probing.reading import probe, read_from_tokens, summarize
from icot.probing.states import States, collect
from tests.probing.known import examples_at, random_model

CPU = torch.device("cpu")
SETTINGS = {"order": [], "most_classes": 50, "ridge": 0.01, "seed": 0, "device": CPU}
NAMES = ["x-2", "x-1", "sep", "y1"]


def constructed(n=1600):
    """Noise, but for a digit that is written along ten directions at layer 2 of ``sep``."""
    rng = np.random.default_rng(0)
    digit, other = rng.integers(0, 10, size=(2, n))
    states = rng.normal(size=(3, 4, n, 24)).astype(np.float32)
    states[2, 2] += 4 * rng.normal(size=(10, 24))[digit]
    tokens = rng.integers(0, 10, size=(4, n))
    tokens[3] = other  # this token tells the other digit by itself
    states[:, 3] += 4 * rng.normal(size=(10, 24))[other]
    seen = rng.integers(0, 2**63, size=(4, n)).astype(np.uint64)
    targets = Targets(["z1", "other"], np.stack([digit, other], axis=1), tokens=1)
    return States(states, [0, 1, 2], NAMES, tokens, seen), targets


def test_a_digit_at_one_layer_and_place_is_read_there_and_nowhere_else():
    states, targets = constructed()
    found = probe(states, targets, 1200, **SETTINGS)
    assert found.best(0) == (2, 2)
    right, control = found.share(found.right), found.share(found.control)
    assert right[2, 2, 0] > 0.95
    elsewhere = np.ones((3, 4), dtype=bool)
    elsewhere[2, 2] = False
    assert right[..., 0][elsewhere].max() < 0.17  # of ten equally frequent digits, 400 questions
    assert control.max() < 0.17
    best = found.describe(0)
    assert (best["layer"], best["position"], best["n"]) == (2, "sep", 200)
    assert best["selectivity"] == pytest.approx(best["accuracy"] - best["control"], abs=1e-5)
    assert best["accuracy_low"] < best["accuracy"] <= best["accuracy_high"]
    assert found.gain(1)[2, 2, 0] > 0.9


def test_what_the_token_itself_tells_is_no_find():
    states, targets = constructed()
    found = probe(states, targets, 1200, **SETTINGS)
    assert (found.share(found.right)[:, 3, 1] > 0.95).all()
    assert (found.share(found.token)[3, 1], found.share(found.token)[2, 1]) == (
        1,
        pytest.approx(0.1, abs=0.06),
    )
    assert (found.gain()[:, 3, 1] == 0).all()


def test_few_inputs_are_learned_by_heart_and_the_control_task_shows_it():
    states, targets = constructed()
    kinds = states.tokens[3].astype(np.uint64)  # ten inputs, each with its own states
    states.seen[3] = kinds
    found = probe(states, targets, 1200, **SETTINGS)
    assert (found.share(found.control)[:, 3] > 0.95).all()


def test_absent_values_do_not_count_and_a_place_that_few_have_is_not_read():
    states, targets = constructed()
    targets.values[::2, 0] = ABSENT
    states.tokens[1, 5:] = -1
    found = probe(states, targets, 1200, **SETTINGS)
    assert found.n[:, 2, 0].sum() == 200
    assert found.best(0) == (2, 2)
    assert found.share(found.right)[2, 2, 0] > 0.95
    assert np.isnan(found.gain()[:, 1]).all()
    rows = list(found.rows({"model": "m"}))
    assert {row["position"] for row in rows} == {"x-2", "sep", "y1"}
    assert len(rows) == 2 * 3 * 3


def test_a_thing_that_no_question_of_the_second_half_has_is_read_nowhere():
    states, targets = constructed()
    targets.values[1400:, 0] = ABSENT
    found = probe(states, targets, 1200, **SETTINGS)
    assert found.n[:, 2, 0].tolist() == [200, 0]
    assert found.describe(0) == {"target": "z1", "layer": None, "position": None}


def test_a_chain_that_is_written_is_read_where_it_stands(tmp_path):
    """Untrained weights of a real model: layer 0 of a chain's token holds that token."""
    examples = examples_at(0)
    names = ["x-1", "sep", "z2", "z4"]
    states = collect(random_model(), examples, [0, 2], names, 100, tmp_path)
    targets = find_targets(examples.store, examples.rows, [{}] * len(examples), [2])
    found = probe(states, targets, 500, **{**SETTINGS, "order": names_of(examples)})
    right, control = found.share(found.right)[..., 0], found.share(found.control)[..., 0]
    chance = found.share(found.majority)[:, 0]
    assert (right[0] <= chance + 0.1).tolist() == [True, True, False, True]
    assert right[0, 2] == 1
    assert right[1, 2] > 0.9
    assert found.best(0)[1] < 2  # it is no find where it stands, nor behind it
    assert (control <= chance + 0.1).all()  # also where the chain is read


def test_a_question_s_own_tokens_tell_what_is_linear_in_them():
    examples = examples_at(8)
    tokens = question_tokens(examples.store, examples.rows)
    assert tokens.shape == (5, 700)
    first = examples.batch(np.arange(1)).input_ids[0]
    assert tokens[:, 0].tolist() == first[:5].flip(0).tolist()
    targets = Targets(["x-1", "noise"], np.stack([tokens[0], tokens[0] * 0], 1), 2)
    targets.values[:, 1] = np.random.default_rng(0).integers(0, 5, 700)
    share = read_from_tokens(tokens, encode(targets.values, 500, 50), 500, 0.01)
    assert share[0] == 1
    assert share[1] < 0.35


def test_the_summary_is_the_mean_over_the_best_places():
    one = {"kind": "quantity", "layer": 1, "accuracy": 0.5, "control": 0.1, "selectivity": 0.4}
    one |= {"token": 0.1, "majority": 0.2, "gain": 0.4, "from_question": 0.3}
    none = {"kind": "quantity", "layer": None}
    found = summarize([one, {**one, "accuracy": 1.0}, none])
    assert found["quantity"]["things"] == 2
    assert found["quantity"]["accuracy"] == 0.75
    nowhere = summarize([none])["quantity"]
    assert nowhere.pop("things") == 0
    assert set(nowhere.values()) == {None}


def test_places_before_a_token_is_written():
    order = ["x-1", "sep", "z2", "z3", "end", "y1"]
    assert places_before("z3", ["x-1", "sep", "z2", "end"], order) == 3
    assert places_before("z2", ["sep", "y1"], order) == 1
    assert places_before("z1", ["sep", "y1"], order) == 2  # removed
    assert places_before("carry", order, order) == 6
