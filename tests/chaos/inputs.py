"""Mutated text files, predictions and command lines: icot's own errors, or a right result."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from icot.config.command_line import mistakes_in
from icot.config.entry_points import SCHEMAS, register_schemas
from icot.config.experiments import CONFIG_MODULE
from icot.data.tokenized import tokenize_split
from icot.errors import DataError
from icot.evaluation.failures import answer_positions
from icot.evaluation.predictions import read_predictions, write_predictions
from icot.models.tokenizers import build_symbol_tokenizer
from icot.tasks.answers import extract_answer
from icot.tasks.base import Example
from icot.tasks.lines import write_line
from icot.tasks.multiplication import Multiplication
from icot.tasks.reading import OnBadLine
from icot.tasks.text_files import TextFiles
from tests.chaos.harness import Outcome

PIECES = (
    b"||", b"####", b" #### ", b"\n", b"\r", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", "\u2028".encode(), "\U0001f600".encode(), b"<eos>", b" <eos> ", b"|", b"#",
    b"\t", b" " * 300, b"9" * 5000, b"<<1+1=2>>", b"",
)  # fmt: skip


def check_text_file(content: bytes, folder: Path) -> tuple[int, bool]:
    """Read a file of examples, bad lines skipped and refused; write what was read, read it again.

    Returns:
        The number of skipped lines, and whether the file is refused where none may be bad.

    Raises:
        AssertionError: a line is lost, an error names none, or what was written reads otherwise.
    """
    path = folder / "train.txt"
    path.write_bytes(content)
    expected = content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    found, skipped = _read(folder, "skip")
    assert len(found) + skipped == expected, f"{len(found)} + {skipped} of {expected} lines"
    refused = False
    try:
        _read(folder, "raise")
    except DataError as error:
        refused = True
        if "train.txt, line " not in str(error):
            raise AssertionError("no line is named") from error
    assert refused == (skipped > 0), f"{skipped} lines skipped, {refused=}"
    # What was read, and the same text as three parts of an example, whatever is in them.
    parts = content.decode(errors="surrogateescape").split("\0")
    texts = [parts[i : i + 3] for i in range(0, len(parts) - 2, 3)]
    written = [line for e in (*found, *(Example(*t) for t in texts)) for line in _lines_of(e)]
    path.write_text("".join(f"{line}\n" for line, _ in written), encoding="utf-8", newline="\n")
    again, skipped = _read(folder, "raise")
    assert again == [example for _, example in written], "reads otherwise than it was written"
    return expected - len(found), refused


def _lines_of(example: Example) -> list[tuple[str, Example]]:
    """The line of an example, and the example; nothing where no line can hold it."""
    try:
        return [(write_line(example), example)]
    except ValueError:
        return []


def _read(folder: Path, on_bad_line: OnBadLine) -> tuple[list[Example], int]:
    files = TextFiles(folder, valid_file=None, test_file=None, on_bad_line=on_bad_line)
    return [e for part in files.chunks("train") for e in part], files.skipped("train")


def text_files(folder: Path, count: int = 10_000, seed: int = 0) -> Outcome:
    """Read + dropped is the number of lines; what is wrong is named by file and line."""
    rng = random.Random(seed)
    task = Multiplication(2, train_size=30, valid_size=1, test_size=0)
    lines = [example.line().encode() for part in task.chunks("train") for example in part]
    tokenizer = build_symbol_tokenizer(task.symbols())
    lost: list[str] = []
    refused = dropped = 0
    for number in range(count):
        content = _mutated(b"\n".join(rng.sample(lines, rng.randint(0, 6))) + b"\n", rng)
        try:
            skipped, was_refused = check_text_file(content, folder)
            dropped, refused = dropped + skipped, refused + was_refused
            if number % 10 == 0:  # all the way to tokens
                (folder / "train.txt").write_bytes(content)
                files = TextFiles(folder, valid_file=None, test_file=None, on_bad_line="skip")
                store = tokenize_split(files, "train", tokenizer, folder / "cache")
                expected = content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
                assert len(store) + store.index["skipped_lines"] == expected, "lines of the store"
        except Exception as error:
            lost.append(f"{content!r}: {error!r}")
    note = (
        f"read + dropped = lines each time ({dropped:,} dropped); without `on_bad_line=skip` "
        f"{refused:,} files refused, file and line named"
    )
    return Outcome("mutated text files", count, lost, note)


def check_predictions(content: bytes, folder: Path) -> bool:
    """Read and score a file of predictions, write them and read them again.

    Returns:
        Whether the file is refused.

    Raises:
        AssertionError: they read otherwise than they were written.
    """
    path = folder / "predictions.jsonl"
    path.write_bytes(content)
    try:
        found = read_predictions(path, _is_correct)
    except DataError as error:
        if ", line " not in str(error) and "the file is empty" not in str(error):
            raise AssertionError("no line is named") from error
        return True
    answer_positions(found, extract_answer)
    write_predictions(path, found)
    assert read_predictions(path, _is_correct) == found, "read otherwise than they were written"
    return False


def _is_correct(prediction: str, target: str) -> bool:
    return extract_answer(prediction) == extract_answer(target)


PREDICTIONS = (
    b'{"question": "1 * 2", "target": "#### 2", "prediction": "#### 2"}',
    b'{"target": "1 #### 2 3", "prediction": "1 #### 2 4", "correct": true, "tokens": 4}',
    b'{"target": "\\u00e9 \\ud83d\\ude00", "prediction": "", "question": 7}',
    b'{"target": "a"}',
    b"",
    b"[]",
)


def _odd_prediction(rng: random.Random) -> bytes:
    errors = rng.choice(("replace", "replace", "surrogateescape"))  # the last: half characters
    texts = (_mutated(b"1 2 #### 3 4", rng).decode(errors=errors) for _ in range(3))
    return json.dumps(dict(zip(("question", "target", "prediction"), texts, strict=True))).encode()


def predictions(folder: Path, count: int = 10_000, seed: int = 0) -> Outcome:
    """Files of predictions that another program might have written."""
    rng = random.Random(seed)
    lost: list[str] = []
    refused = 0
    for number in range(count):
        if number % 2:  # damaged
            content = _mutated(b"\n".join(rng.choices(PREDICTIONS[:2], k=3)) + b"\n", rng)
        else:  # with odd texts
            content = b"\n".join(_odd_prediction(rng) for _ in range(3))
        try:
            refused += check_predictions(content, folder)
        except Exception as error:
            lost.append(f"{content!r}: {error!r}")
    note = f"{refused:,} files refused, line named"
    return Outcome("mutated files of predictions", count, lost, note)


def _mutated(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 5)):
        at = rng.randint(0, len(content))
        kind = rng.randrange(5)
        if kind == 0 and content:
            at = min(at, len(content) - 1)
            content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + content[at + rng.randint(1, 20) :]
        elif kind == 2:
            content = content[:at] + content[at : at + 40] * 2 + content[at + 40 :]
        else:
            content = content[:at] + rng.choice(PIECES) + content[at:]
    return content


OVERRIDES = (
    "task=mult4", "task=text", "model=gpt2", "model.pretrained=false", "schedule=explicit",
    "schedule.tokens_per_epoch=4", "schedule.smoothing_lambda=inf", "schedule.side=right",
    "schedule.stops=[1,2,3]", "schedule.tokens_removed=all", "optimizer=adamw", "optimizer.lr=1e-4",
    "optimizer.betas=[0.9,0.95]", "trainer=ddp", "trainer.max_steps=10", "trainer.max_time=null",
    "data.batch_size=8,16", "seed=1,2,3", "resume=auto", "on_nonfinite=rollback",
    "on_collapse=warn", "logger=wandb", "logger.tags=[a,b]", "checkpoints.every_minutes=1",
    "+callbacks.x._target_=lightning.pytorch.callbacks.Timer", "+model.config.n_layer=2",
    "hydra.run.dir=x", "hydra.job.name=null", "model=[]", "run_dir=x", "runs=[a,b]",
    "~optimizer.lr", "paths.output_dir=y", "task.seed=range(1,4)",
)  # fmt: skip
CHARACTERS = "=.,[]{}()'\"\\$+~/@:|-_ 0e#\n\0\u00e9abs"


@contextmanager
def hydra() -> Iterator[None]:
    """Hydra with icot's configuration, for ``check_overrides``."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        yield


def check_overrides(chosen: list[str], command: str = "train") -> bool:
    """Judge a list of overrides; compose what they make if nothing is wrong with them.

    Returns:
        Whether they are refused.
    """
    if mistakes_in(chosen, command, multirun=False):
        return True
    if any("hydra" in text for text in chosen):
        compose(command, chosen, return_hydra_config=True)
    return False


def overrides(folder: Path, count: int = 1_000, seed: int = 0) -> Outcome:
    """A list of overrides is refused with reasons, or composes."""
    rng = random.Random(seed)
    lost = []
    refused = 0
    with hydra():
        for _ in range(count):
            chosen = [_changed(text, rng) for text in rng.sample(OVERRIDES, rng.randint(1, 5))]
            try:
                refused += check_overrides(chosen, rng.choice(tuple(SCHEMAS)))
            except Exception as error:
                lost.append(f"{chosen}: {error!r}"[:500])
    note = f"{refused:,} refused with reasons, the others compose"
    return Outcome("mutated lists of overrides", count, lost, note)


def _changed(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        at = rng.randint(0, len(text))
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + rng.choice(CHARACTERS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + 1 :]
        elif kind == 2:
            text = text[:at] + rng.choice(OVERRIDES)[at:]
        else:
            key, mark, _ = text.partition("=")
            values = ("", "null", "-1", "nan", "inf", "1e999", "[]", "{}", "true", "'x'", "${seed}")
            text = f"{key}{mark}{rng.choice(values)}"
    return text
