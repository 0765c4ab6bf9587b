"""The time from the command to the end of the first update, in separate processes.

Ours is ``python -m icot.train``, without and with a token cache; the plain one imports torch and
transformers, tokenizes line by line and makes one update.
"""

import os
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from icot.benchmarks.step import prepare_data
from icot.benchmarks.timing import medians, time_starts
from icot.commands.build import build_model
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.errors import RunError

OWN_KEYS = ("what", "repeats", "out")  # keys that training does not have
PLAIN = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from icot.benchmarks import plain_loop
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).train()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
examples = plain_loop.tokenize_lines(open(sys.argv[2]), tokenizer)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
plain = plain_loop.PlainCausalLM(model, 0, tokenizer.eos_token_id)
plain_loop.step(plain, optimizer, plain.loss(examples[: int(sys.argv[3])]))
"""


class EndOfProcess(Callback):
    """Ends the process after the first update."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """End the process."""
        if trainer.global_step:
            os._exit(0)


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Seconds to the end of the first update of the composed training."""
    overrides = [o for o in command.overrides if o.split("=")[0] not in OWN_KEYS]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = prepare_data(cfg)
        task, tokenizer = data.task, data.tokenizer
        model: Any = build_model(cfg, tokenizer, data.longest)
        model.save_pretrained(root / "model")
        tokenizer.save_pretrained(root / "model")
        file = root / "train.txt"
        with file.open("w", encoding="utf-8") as lines:
            lines.writelines(e.line() + "\n" for chunk in task.chunks("train") for e in chunk)
        runs = count()

        def ours(cache: str) -> None:
            command = [sys.executable, "-m", "icot.train", *overrides]
            command += [f"+callbacks.end._target_={__name__}.EndOfProcess"]
            command += [f"paths.cache_dir={root / cache}", f"hydra.run.dir={root}/{next(runs)}"]
            _run(command)

        def plain() -> None:
            _run([sys.executable, "-c", PLAIN, str(root / "model"), str(file), batch_size])

        batch_size = str(cfg.data.batch_size)
        seconds = time_starts(ours, plain, cfg.repeats)
    middle = medians(seconds)
    return {
        "task": task.name,
        "model": cfg.model.name_or_path,
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": cfg.trainer.precision,
        "seconds": seconds,
        "median_seconds": middle,
        "ratios": {
            "first start": middle["plain"] / middle["ours"],
            "second start": middle["plain"] / middle["ours, second start"],
        },
    }


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"{' '.join(command[:4])} ... ended with {done.returncode}: {done.stderr}")
