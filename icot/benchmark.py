"""``python -m icot.benchmark``: measure icot against a plain baseline, by turns in the same run.

    python -m icot.benchmark what=validation run_dir=outputs/RUN
    python -m icot.benchmark what=decode task=mult9 model=gpt2 model.pretrained=false

``validation`` scores a run's weights three ways: verify-then-decode, decoding always, and the
library's ``generate`` at batch 32 (``benchmarks/plain_loop.py``). ``decode`` times examples one at
a time with random weights: the whole chain and the answer alone, over the answer alone (No CoT).
Prints a table and writes ``benchmark-WHAT.json``.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from omegaconf import DictConfig

from icot.entry_point import quiet_libraries, run

Way = Callable[[], Any]


def benchmark(cfg: DictConfig) -> None:
    """Measure what ``cfg.what`` names."""
    from rich.console import Console

    from icot.config_checks import check_values
    from icot.errors import ConfigError, RunError
    from icot.files import write_text
    from icot.hardware import keep_freed_memory
    from icot.reporting.tables import print_benchmark
    from icot.run_directory import machine

    if mistakes := check_values(cfg):
        raise ConfigError(mistakes)
    quiet_libraries()
    keep_freed_memory()
    measured = {"validation": validation, "decode": decoding}[cfg.what](cfg)
    record = {"what": cfg.what, **measured, **machine()}
    folder = Path(cfg.out or ".")
    path = folder / f"benchmark-{cfg.what}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(record, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}).") from None
    console = Console()
    print_benchmark(console, record)
    console.print(f"Written: {path}", highlight=False, soft_wrap=True)


def validation(cfg: DictConfig) -> dict[str, Any]:
    """Verify-then-decode and decoding always against ``generate``, on a run's weights."""
    from icot.benchmarks.plain_loop import generate
    from icot.checkpoints import KeptRun
    from icot.components import build_task
    from icot.errors import RunError
    from icot.evaluation.decoding import without_end
    from icot.evaluation.measurement import Source, loaded, precision_context
    from icot.evaluation.scoring import evaluate, texts

    kept = KeptRun(cfg.run_dir)
    task = build_task(kept.cfg)
    source = Source.own(task, "valid")
    checkpoint = kept.select(cfg.stage)[0]
    model, tokenizer, examples = loaded(
        kept, checkpoint, source, None, cfg.examples, cfg.trainer.accelerator, _cache(cfg)
    )
    if examples.keep_position_ids and examples.tokens_removed:
        raise RunError("generate knows no kept position ids; take a run or stage without.")
    prompts, targets = examples.as_tokens()
    wanted = texts(tokenizer, [without_end(t, examples.eos_token_id) for t in targets])

    def score(how: Any) -> float:
        found = evaluate(model, examples, task, tokenizer, cfg.validation.batch_size, how)
        return found.accuracy

    def plain() -> float:
        new = generate(model, prompts, examples.eos_token_id, examples.longest_target)
        written = texts(tokenizer, [without_end(row, examples.eos_token_id) for row in new])
        pairs = list(zip(written, wanted, strict=True))
        return sum(1 for w, t in pairs if task.is_correct(w, t)) / len(pairs)

    ways = {"verify": lambda: score("verify"), "always": lambda: score("always"), "generate": plain}
    with precision_context(model, cfg.precision):
        accuracy = {name: way() for name, way in ways.items()}  # also the warm-up
        seconds = by_turns(ways, cfg.repeats)
    middle = {name: median(times) for name, times in seconds.items()}
    return {
        "run_dir": str(kept.folder),
        "stage": checkpoint.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "examples": len(examples),
        "batch_size": cfg.validation.batch_size,
        "precision": cfg.precision,
        "accuracy": accuracy,
        "seconds": seconds,
        "median_seconds": middle,
        "ratios": {
            "verify over always": middle["always"] / middle["verify"],
            "always over generate": middle["generate"] / middle["always"],
            "verify over generate": middle["generate"] / middle["verify"],
        },
    }


def decoding(cfg: DictConfig) -> dict[str, Any]:
    """Examples a second at batch 1, with and without the chain, over the answer alone."""
    import numpy as np
    from lightning import seed_everything

    from icot.components import build_model, build_task, build_tokenizer
    from icot.data.staged import StagedExamples
    from icot.data.tokenized import separator_id, tokenized
    from icot.evaluation.measurement import precision_context
    from icot.evaluation.speed import one_at_a_time
    from icot.hardware import device_for

    seed_everything(cfg.seed, verbose=False)
    task = build_task(cfg)
    tokenizer = build_tokenizer(cfg, task)
    store = tokenized(task, "valid", tokenizer, _cache(cfg))
    model = (
        build_model(cfg, tokenizer, store.longest).eval().to(device_for(cfg.trainer.accelerator))
    )
    rows = np.arange(min(len(store), cfg.examples))
    no_cot = StagedExamples(store, rows, store.longest_cot, separator_id(tokenizer))
    ways = {"explicit CoT": no_cot.at(0), "fully internalized": no_cot, "No CoT": no_cot}
    with precision_context(model, cfg.precision):
        timed = one_at_a_time(model, ways, len(rows), cfg.seconds, to_the_limit=True)
    base = timed["No CoT"].examples_per_second
    return {
        "task": task.name,
        "model": cfg.model.name_or_path,
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": cfg.precision,
        "timings": {name: t.summary() for name, t in timed.items()},
        "ratios": {
            f"{name} over No CoT": t.examples_per_second / base
            for name, t in timed.items()
            if name != "No CoT"
        },
    }


def by_turns(ways: Mapping[str, Way], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, ``repeats`` times, every other round in reverse order."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats):
        for name in list(ways) if i % 2 else reversed(list(ways)):
            begun = perf_counter()
            ways[name]()
            seconds[name].append(perf_counter() - begun)
    return seconds


def _cache(cfg: DictConfig) -> Path:
    return Path(cfg.paths.cache_dir)


def main() -> None:
    """The command."""
    run("benchmark", benchmark)


if __name__ == "__main__":
    main()
