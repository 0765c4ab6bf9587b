"""The flat store: equal to tokenizing whole texts one by one, cached by content."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from icot.data.batches import collate
from icot.data.staged import StagedExamples
from icot.data.tokenized import INDEX, detokenize, tokenize_examples, tokenize_split
from icot.errors import DataError
from icot.models.tokenizers import load_tokenizer
from icot.removal import IGNORED
from icot.system.locks import lock_file
from icot.tasks.base import Example
from icot.tasks.multiplication import Multiplication
from icot.tasks.text_files import TextFiles


@pytest.mark.parametrize("kind", ["symbol", "gpt2"])
def test_equals_whole_texts_one_by_one(tmp_path, mult2, kind, request):
    if kind == "gpt2":
        kind = str(request.getfixturevalue("real_data") / "gpt2-tokenizer")
    tokenizer = load_tokenizer(kind, mult2)
    store = tokenize_split(mult2, "train", tokenizer, tmp_path)
    examples = [e for chunk in mult2.chunks("train") for e in chunk]
    assert len(store) == len(examples) == 70
    for i, example in enumerate(examples):
        ids = tokenizer(example.text(tokenizer.eos_token), add_special_tokens=False)["input_ids"]
        start, end = store.offsets[i], store.offsets[i + 1]
        assert store.tokens[start:end].tolist() == ids
        separators = [j for j, t in enumerate(ids) if t == tokenizer.eos_token_id]
        assert (store.cot_start[i], store.cot_end[i]) == (separators[0] + 1, separators[1])
        assert separators[2] == len(ids) - 1


def test_the_removable_span_counts_the_blank_before_the_separator(tmp_path, real_data):
    task = Multiplication(4, train_size=3, valid_size=1, test_size=1)
    tokenizer = load_tokenizer(str(real_data / "gpt2-tokenizer"), task)
    assert tokenize_split(task, "train", tokenizer, tmp_path).longest_cot == 47


def test_a_second_start_builds_nothing_and_other_content_builds_anew(tmp_path, mult2, symbols):
    first = tokenize_split(mult2, "train", symbols, tmp_path)
    made = (first.folder / INDEX).stat().st_mtime_ns
    mult2.chunks = None  # type: ignore[assignment]  # nothing may be read again
    again = tokenize_split(mult2, "train", symbols, tmp_path)
    assert again.folder == first.folder
    assert (again.folder / INDEX).stat().st_mtime_ns == made
    other = Multiplication(2, train_size=70, valid_size=20, test_size=5, seed=2)
    assert tokenize_split(other, "train", symbols, tmp_path).folder != first.folder
    assert json.loads((first.folder / INDEX).read_text())["examples"] == 70


def test_a_separator_inside_an_example_is_refused(tmp_path):
    (tmp_path / "train.txt").write_text("a <eos> b||c #### 1\n")
    (tmp_path / "valid.txt").write_text("a||c #### 1\n")
    task = TextFiles(tmp_path, test_file=None)
    tokenizer = load_tokenizer("symbol", task)
    with pytest.raises(DataError, match="separator"):
        tokenize_split(task, "train", tokenizer, tmp_path / "cache")
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_batch_is_padded_on_the_right_and_supervises_behind_the_first_separator(tmp_path):
    lines = ["1 2||3 4 5 #### 6", "1||2 #### 3"]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "valid.txt").write_text(lines[0] + "\n")
    task = TextFiles(tmp_path, test_file=None)
    tokenizer = load_tokenizer("symbol", task)
    batch = collate(tokenize_split(task, "train", tokenizer, tmp_path), np.array([1, 0]), 0)
    decoded = [
        [str(tokenizer.convert_ids_to_tokens(int(t))).strip() for t in row]
        for row in batch.input_ids
    ]
    assert decoded[0] == ["1", "<eos>", "2", "<eos>", "####", "3", "<eos>", *["<eos>"] * 3]
    assert decoded[1] == ["1", "2", "<eos>", "3", "4", "5", "<eos>", "####", "6", "<eos>"]
    assert (batch.labels[0] == IGNORED).tolist() == [True] * 2 + [False] * 5 + [True] * 3
    assert batch.cot_start.tolist() == [2, 3]
    assert batch.cot_end.tolist() == [3, 6]
    assert batch.lengths.tolist() == [7, 10]


def test_no_rows_make_a_batch_that_supervises_nothing(tmp_path, mult2, symbols):
    store = tokenize_split(mult2, "train", symbols, tmp_path)
    batch = collate(store, np.empty(0, dtype=np.int64), 0)
    assert len(batch.lengths) == 1
    assert (batch.labels == IGNORED).all()


def test_of_two_that_build_one_store_at_once_one_waits_for_the_other(tmp_path, symbols):
    class Slow(Multiplication):
        builds = 0

        def chunks(self, split):
            self.builds += 1
            time.sleep(0.3)
            return super().chunks(split)

    tasks = [Slow(2, train_size=70, valid_size=20, test_size=5, seed=1) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda task: tokenize_split(task, "train", symbols, tmp_path), tasks)
    assert sorted(task.builds for task in tasks) == [0, 1]
    assert one.folder == two.folder
    assert np.array_equal(one.tokens, two.tokens)


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "cot_end.bin", INDEX])
@pytest.mark.parametrize("how", ["altered", "cut", "gone"])
def test_a_damaged_store_is_built_anew(tmp_path, mult2, symbols, caplog, name, how):
    first = tokenize_split(mult2, "train", symbols, tmp_path)
    tokens = np.array(first.tokens)
    path = first.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if how == "altered" else content[:-3])
    if how == "gone":
        path.unlink()
    again = tokenize_split(mult2, "train", symbols, tmp_path)
    assert "is damaged and is rebuilt" in caplog.text
    assert np.array_equal(again.tokens, tokens)
    assert again.index == first.index


def test_with_skip_a_line_that_contains_the_separator_is_left_out_and_counted(tmp_path):
    (tmp_path / "train.txt").write_text("a||b #### 1\na <eos> b||c #### 1\nnonsense\n")
    task = TextFiles(tmp_path, valid_file=None, test_file=None, on_bad_line="skip")
    tokenizer = load_tokenizer("symbol", TextFiles(tmp_path, None, None, None, name="none"))
    store = tokenize_split(task, "train", tokenizer, tmp_path / "cache")
    assert (len(store), task.skipped("train"), store.index["skipped_lines"]) == (1, 2, 2)


def test_a_store_in_memory_is_the_one_on_disk(tmp_path, mult2, symbols):
    on_disk = tokenize_split(mult2, "train", symbols, tmp_path)
    examples = [e for chunk in mult2.chunks("train") for e in chunk]
    in_memory = tokenize_examples(examples, symbols)
    assert in_memory.folder is None
    assert in_memory.tokens.dtype == on_disk.tokens.dtype
    for name in ("tokens", "offsets", "cot_start", "cot_end"):
        assert np.array_equal(getattr(in_memory, name), getattr(on_disk, name)), name
    for name in ("longest", "longest_cot"):
        assert getattr(in_memory, name) == getattr(on_disk, name)
    assert len(in_memory) == len(on_disk)
    assert in_memory.texts == tuple(examples)
    same, other = tokenize_examples(examples, symbols), tokenize_examples(examples[:-1], symbols)
    assert in_memory.identity == same.identity != other.identity
    assert len(tokenize_examples([], symbols)) == 0
    with pytest.raises(DataError, match="separator"):
        tokenize_examples([Example("1 <eos>", "2", "3")], symbols)
    with pytest.raises(ValueError, match="no texts"):
        _ = StagedExamples(on_disk, np.arange(2), 0, 0).texts


def test_tokens_become_text_without_separators(symbols):
    rows = symbols([" 1 2 <eos> #### 3 <eos>", " 4"], add_special_tokens=False)["input_ids"]
    assert detokenize(symbols, rows) == ["1 2 #### 3", "4"]
    assert detokenize(symbols, []) == []


def test_what_killed_builds_left_is_removed(tmp_path, mult2, symbols):
    """Not what another process is building."""
    one, two = f"killed-train-{'1f' * 12}", f"other-train-{'2f' * 12}"
    left, building = tmp_path / f".{one}-ab_1", tmp_path / f".{two}-ab_2"
    for folder in (left, building):
        folder.mkdir()
        (folder / "tokens.bin").write_bytes(b"half")
    with lock_file(tmp_path / f".{two}.lock"):
        tokenize_split(mult2, "train", symbols, tmp_path)
        assert (left.exists(), building.exists()) == (False, True)
    tokenize_split(mult2, "valid", symbols, tmp_path)
    assert not building.exists()


def test_folders_of_others_in_the_cache_folder_stay(tmp_path, mult2, symbols):
    """It may be /tmp."""
    others = [tmp_path / ".vscode-server", tmp_path / ".X11-unix", tmp_path / f".a-{'1f' * 12}-b"]
    for folder in others:
        folder.mkdir()
        (folder / "theirs").write_text("precious")
    tokenize_split(mult2, "train", symbols, tmp_path)
    assert all((folder / "theirs").read_text() == "precious" for folder in others)
    assert all(path.name.startswith(".mult2-train-") for path in tmp_path.glob("*.lock"))
