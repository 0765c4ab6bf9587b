"""Decoding speed at batch 1: explicit CoT and full internalization over No CoT."""

from pathlib import Path
from typing import Any

import numpy as np
from lightning import seed_everything

from icot.commands.build import build_model, build_task, build_tokenizer
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.data.staged import StagedExamples
from icot.data.tokenized import separator_id, tokenize_split
from icot.evaluation.speed import compare, time_single_examples
from icot.inference.predictor import GreedyPredictor
from icot.system.hardware import device_for, precision_context


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Examples per second at batch 1, with and without the chain, over the answer alone."""
    seed_everything(cfg.seed, verbose=False)
    task = build_task(cfg.task)
    tokenizer = build_tokenizer(cfg.model, task)
    store = tokenize_split(task, "valid", tokenizer, Path(cfg.paths.cache_dir))
    model = (
        build_model(cfg, tokenizer, store.longest).eval().to(device_for(cfg.trainer.accelerator))
    )
    rows = np.arange(min(len(store), cfg.examples))
    no_cot = StagedExamples(store, rows, store.longest_cot, separator_id(tokenizer))
    stages = {"explicit CoT": no_cot.at(0), "fully internalized": no_cot, "No CoT": no_cot}
    ways = {name: (examples, True) for name, examples in stages.items()}
    predictor = GreedyPredictor(model)
    with precision_context(predictor.device, cfg.precision):
        timed = time_single_examples(predictor, ways, len(rows), cfg.seconds)
    return {
        "task": task.name,
        "model": cfg.model.name_or_path,
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": cfg.precision,
        "timings": {name: t.summary() for name, t in timed.items()},
        "ratios": {
            f"{name} over No CoT": compare(t, timed["No CoT"]).speed
            for name, t in timed.items()
            if name != "No CoT"
        },
    }
