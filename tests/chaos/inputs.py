"""Mutated text files and command lines: the project's own errors, or a right result."""

import random
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from icot.config.command_line import mistakes_in
from icot.config.entry_points import register_schemas
from icot.config.experiments import CONFIG_MODULE
from icot.data.tokenized import tokenize_split
from icot.errors import DataError, UserError
from icot.models.tokenizers import build_symbol_tokenizer
from icot.tasks.multiplication import Multiplication
from icot.tasks.text_files import TextFiles
from tests.chaos.harness import Outcome

PIECES = (
    b"||", b"####", b" #### ", b"\n", b"\r", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", "\u2028".encode(), "\U0001f600".encode(), b"<eos>", b" <eos> ", b"|", b"#",
    b"\t", b" " * 300, b"9" * 5000, b"<<1+1=2>>", b"",
)  # fmt: skip


def text_files(folder: Path, count: int = 10_000, seed: int = 0) -> Outcome:
    """Read + dropped is the number of lines; what is wrong is named by file and line."""
    rng = random.Random(seed)
    task = Multiplication(2, train_size=30, valid_size=1, test_size=0)
    lines = [example.line().encode() for part in task.chunks("train") for example in part]
    tokenizer = build_symbol_tokenizer(task.symbols())
    lost: list[str] = []
    refused = dropped = 0
    path = folder / "train.txt"
    for number in range(count):
        content = _mutated(b"\n".join(rng.sample(lines, rng.randint(0, 6))) + b"\n", rng)
        path.write_bytes(content)
        expected = content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
        try:
            files = TextFiles(folder, valid_file=None, test_file=None, on_bad_line="skip")
            if number % 10:
                kept = sum(len(part) for part in files.chunks("train"))
                skipped = files.skipped("train")
            else:  # all the way to tokens
                store = tokenize_split(files, "train", tokenizer, folder / "cache")
                kept, skipped = len(store), store.index["skipped_lines"]
            dropped += skipped
            if kept + skipped != expected:
                lost.append(f"{content!r}: {kept} + {skipped} of {expected} lines")
        except UserError as error:
            lost.append(f"{content!r}: skipping refused: {error}")
        except Exception as error:
            lost.append(f"{content!r}: {error!r}")
        try:
            files = TextFiles(folder, valid_file=None, test_file=None)
            for _ in files.chunks("train"):
                pass
        except DataError as error:
            refused += 1
            if "train.txt, line " not in str(error):
                lost.append(f"{content!r}: no line is named: {error}")
        except Exception as error:
            lost.append(f"{content!r}: {error!r}")
    note = f"{dropped:,} lines dropped; {refused:,} files refused where none may be"
    return Outcome("mutated text files", count, lost, note)


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
    "hydra.run.dir=x", "~optimizer.lr", "paths.output_dir=y", "task.seed=range(1,4)",
)  # fmt: skip
CHARACTERS = "=.,[]{}()'\"\\$+~/@:|-_ 0e#\n\0\u00e9abs"


def overrides(folder: Path, count: int = 2_000, seed: int = 0) -> Outcome:
    """A list of overrides is refused with reasons, or composes."""
    rng = random.Random(seed)
    register_schemas()
    lost = []
    refused = 0
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        for _ in range(count):
            chosen = [_changed(text, rng) for text in rng.sample(OVERRIDES, rng.randint(1, 5))]
            try:
                if mistakes_in(chosen, "train"):
                    refused += 1
                elif not any("," in text or "range" in text for text in chosen):  # one job
                    compose("train", chosen)
            except Exception as error:
                lost.append(f"{chosen}: {error!r}"[:500])
    return Outcome("mutated override lists", count, lost, f"{refused:,} refused with reasons")


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
