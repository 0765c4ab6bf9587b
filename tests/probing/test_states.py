"""Places by their names, and the states that are collected there."""

import numpy as np
import pytest
import torch

from icot.data.fillers import Filler, add_filler, filler_id
from icot.data.staged import StagedExamples
from icot.data.tokenized import separator_id, tokenize_examples
from icot.errors import ConfigError, RunError
from icot.models.forward import supervised_logits
from icot.models.tokenizers import build_symbol_tokenizer
from icot.probing import states as module
from icot.probing.places import choose_places, names_of
from icot.probing.questions import HeldOut, find_targets
from icot.probing.states import batch_with_columns, collect
from icot.tasks.base import Example
from icot.tasks.multiplication import Multiplication
from tests.probing.known import examples_at, random_model

TEXTS = [Example("1 2 3", "4 5 6", "7"), Example("8", "9 0", "1 2")]
CPU = torch.device("cpu")


def uneven(removed, side="left", filler_count=0):
    tokenizer = add_filler(build_symbol_tokenizer((*"0123456789", "####")))
    store, eos = tokenize_examples(TEXTS, tokenizer), separator_id(tokenizer)
    filler = Filler(filler_id(tokenizer), filler_count)
    return StagedExamples(store, np.arange(2), removed, eos, side, filler=filler), tokenizer


@pytest.mark.parametrize(
    ("removed", "side", "filler_count", "expected"),
    [
        (0, "left", 0, {"x-3": "1 .", "x-2": "2 .", "x-1": "3 8", "sep": "| |", "z1": "4 9",
                     "z2": "5 0", "z3": "6 .", "end": "| |", "y1": "#### ####", "y2": "7 1",
                     "y3": ". 2"}),
        (1, "left", 0, {"x-3": "1 .", "x-2": "2 .", "x-1": "3 8", "sep": "| |", "z2": "5 0",
                     "z3": "6 .", "end": "| |", "y1": "#### ####", "y2": "7 1", "y3": ". 2"}),
        (3, "left", None, {"x-3": "1 .", "x-2": "2 .", "x-1": "3 8", "sep": "| |",
                           "f1": "<filler> <filler>", "f2": "<filler> <filler>", "f3": "<filler> .",
                           "end": "| |", "y1": "#### ####", "y2": "7 1", "y3": ". 2"}),
        (2, "right", 1, {"x-3": "1 .", "x-2": "2 .", "x-1": "3 8", "sep": "| |",
                         "f1": "<filler> <filler>", "z1": "4 .", "end": "| |", "y1": "#### ####",
                         "y2": "7 1", "y3": ". 2"}),
        (1, "right", 0, {"x-3": "1 .", "x-2": "2 .", "x-1": "3 8", "sep": "| |", "z1": "4 9",
                      "z2": "5 .", "end": "| |", "y1": "#### ####", "y2": "7 1", "y3": ". 2"}),
    ],
)  # fmt: skip
def test_places_in_questions_of_different_length(removed, side, filler_count, expected):
    examples, tokenizer = uneven(removed, side, filler_count)
    names = names_of(examples)
    assert names == list(expected)
    batch, columns = batch_with_columns(examples, np.arange(2), names, CPU)
    for name, own in zip(names, columns.T.tolist(), strict=True):
        shown = [
            "." if at < 0 else tokenizer.convert_ids_to_tokens(int(batch.input_ids[row, at]))
            for row, at in enumerate(own)
        ]
        assert " ".join(shown).replace("<eos>", "|") == expected[name], name


def test_places_are_chosen_by_part_or_name():
    names = names_of(uneven(1)[0])
    assert choose_places(names, None) == names
    assert choose_places(names, ["answer", "x-1", "z1"]) == ["x-1", "y1", "y2", "y3"]
    assert choose_places(names, ["chain", "end", "sep"]) == ["sep", "z2", "z3", "end"]
    with pytest.raises(ConfigError, match="positions: quesion: did you mean question"):
        choose_places(names, ["quesion"])


def test_targets_are_the_whole_chain_and_the_quantities():
    examples, tokenizer = uneven(3)
    found = find_targets(examples.store, examples.rows, [{"sum": 4}, {"sum": "x", "rest": 1}], None)
    assert found.names == ["z1", "z2", "z3", "sum", "rest"]
    tokens = tokenizer.convert_ids_to_tokens(found.values[0, :3].tolist())
    assert tokens == ["4", "5", "6"]
    assert found.values[1, 2] == found.values[0, 4] == -1
    assert found.values[0, 3] != found.values[1, 3]
    assert found.varying(2).names == ["z1", "z2", "sum"]
    assert found.varying(2).tokens == 2
    assert find_targets(examples.store, examples.rows, [{}, {}], [2]).names == ["z2"]


def test_held_out_questions_are_those_of_two_splits_each_once():
    class Twice(Multiplication):
        def chunks(self, split):
            for chunk in super().chunks(split):
                yield [*chunk, *chunk[:2]]

    task = Twice(2, train_size=10, valid_size=6, test_size=4, seed=1)
    found = [e.question for part in HeldOut(task).chunks("valid") for e in part]
    valid, test = (next(iter(task.chunks(s))) for s in ("valid", "test"))
    assert found == [e.question for e in (*valid[:6], *test[:4])]


@pytest.mark.parametrize("removed", [0, 5])
def test_states_are_the_library_s_also_from_a_mapped_file(removed, tmp_path, monkeypatch):
    model, examples = random_model(), examples_at(removed, 25)
    names = names_of(examples)
    found = collect(model, examples, [0, 1, 2], names, 10, tmp_path)
    batch, columns = batch_with_columns(examples, np.arange(25), names, CPU)
    kept = []
    model.transformer.ln_f.register_forward_pre_hook(lambda m, args: kept.append(args[0]))
    hidden = model(batch.input_ids, output_hidden_states=True, use_cache=False).hidden_states
    for layer, states in enumerate([*hidden[:2], kept[0]]):
        expected = states[torch.arange(25)[:, None], columns].transpose(0, 1)
        assert np.allclose(found.values[layer], expected.detach().numpy(), atol=1e-5)
    assert (batch.input_ids.gather(1, columns).numpy() == found.tokens.T).all()
    for place, prefix in enumerate(columns[0].tolist()):
        inputs = [tuple(row[: prefix + 1]) for row in batch.input_ids.tolist()]
        same = [[a == b for a in inputs] for b in inputs]
        assert (same == (found.seen[place][:, None] == found.seen[place])).all()
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    mapped = collect(model, examples, [0, 1, 2], names, 10, tmp_path)
    assert isinstance(mapped.values, np.memmap)
    assert (mapped.values == found.values).all()
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_a_full_disk_is_said_before_any_state_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    monkeypatch.setattr(module.np, "prod", lambda shape: 2**58)
    with pytest.raises(RunError, match="cannot be written"):
        collect(random_model(), examples_at(0, 25), [0], ["sep"], 10, tmp_path)


def test_reading_leaves_the_model_as_it_was(tmp_path):
    model, examples = random_model(), examples_at(0, 25)
    collect(model, examples, [0], ["sep"], 10, tmp_path)
    assert not any(
        block._forward_pre_hooks or block._forward_hooks for block in model.transformer.h
    )
    logits, _, _ = supervised_logits(model, examples.batch(np.arange(3)))
    assert logits.isfinite().all()
