"""Sampling in batches against ``generate`` for one question after the other, on equal weights."""

from pathlib import Path
from typing import Any

import torch
from lightning import seed_everything

from icot.benchmarks.timing import medians, time_alternately
from icot.commands.build import build_model, build_task, build_tokenizer
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.data.tokenized import separator_id, tokenize_split
from icot.inference.answering import tokenize_questions
from icot.inference.completions import Decoding, Request
from icot.inference.teachers import RunTeacher
from icot.models.introspection import device_of
from icot.system.hardware import device_for, precision_context

TOKENS = 64  # of every sample, at the most
ONE_BY_ONE = 8  # samples of a round that generate writes


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Seconds per token of both ways; they draw other tokens, and stop where theirs end."""
    seed_everything(cfg.seed, verbose=False)
    task = build_task(cfg.task)
    tokenizer = build_tokenizer(cfg.model, task)
    store = tokenize_split(task, "valid", tokenizer, Path(cfg.paths.cache_dir))
    model = build_model(cfg, tokenizer, store.longest + TOKENS).eval()
    model = model.to(device_for(cfg.trainer.accelerator))
    questions = [e.question for part in task.chunks("valid") for e in part][: cfg.examples]
    teacher = RunTeacher(
        model,
        tokenizer,
        Decoding(TOKENS, temperature=1.0),
        cfg.validation.batch_size,
        tokens_removed=0,
        side="left",
        keep_position_ids=False,
    )
    teacher.separators = TOKENS + 1  # never: all samples are equally long
    requests = [Request(question, seed=i) for i, question in enumerate(questions)]
    rows = [torch.tensor([row]) for row in tokenize_questions(questions[:ONE_BY_ONE], tokenizer)]

    def in_batches() -> int:
        return sum(completion.completion_tokens for _, completion in teacher.sample(requests))

    def one_by_one() -> int:
        written = 0
        for row in rows:
            out = model.generate(  # type: ignore[operator]
                row.to(device_of(model)),
                attention_mask=torch.ones_like(row).to(device_of(model)),
                do_sample=True,
                top_k=0,
                use_cache=True,
                min_new_tokens=TOKENS,
                max_new_tokens=TOKENS,
                pad_token_id=separator_id(tokenizer),
            )
            written += out.shape[1] - row.shape[1]
        return written

    ways = {"batches": in_batches, "one by one": one_by_one}
    with precision_context(device_of(model), cfg.precision), torch.no_grad():
        written = {name: way() for name, way in ways.items()}  # also the warm-up
        seconds = time_alternately(ways, cfg.repeats)
    rates = {name: written[name] / middle for name, middle in medians(seconds).items()}
    return {
        "task": task.name,
        "model": cfg.model.name_or_path,
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": cfg.precision,
        "samples": {"batches": len(requests), "one by one": len(rows)},
        "batch_size": cfg.validation.batch_size,
        "tokens_per_second": rates,
        "seconds": seconds,
        "median_seconds": medians(seconds),
        "ratios": {"batches over one by one": rates["batches"] / rates["one by one"]},
    }
