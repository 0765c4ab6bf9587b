"""Validation: verify-then-decode, and decoding everything, against ``generate``."""

import copy
from pathlib import Path
from typing import Any

from icot.benchmarks.plain_loop import generate
from icot.benchmarks.timing import medians, time_alternately
from icot.commands.build import build_task
from icot.commands.build_method import build_method, model_maker
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.data.tokenized import detokenize
from icot.evaluation.loading import Source, load_for_evaluation
from icot.evaluation.scoring import evaluate
from icot.inference.greedy import without_end
from icot.inference.predictor import Decode, GreedyPredictor
from icot.models.export import make_standalone
from icot.models.introspection import device_of
from icot.runs.checkpoints import select_stage
from icot.runs.kept_run import KeptRun
from icot.system.hardware import precision_context


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Verify-then-decode, and decoding everything, against ``generate``, on a run's weights."""
    assert cfg.run_dir is not None
    kept = KeptRun(cfg.run_dir, cfg.trust)
    task = build_task(kept.cfg.task)
    checkpoint = select_stage(kept, cfg.stage)[0]
    subject = load_for_evaluation(
        kept,
        checkpoint,
        Source.own(task, "valid"),
        tokens_removed=None,
        limit=cfg.examples,
        accelerator=cfg.trainer.accelerator,
        cache_dir=Path(cfg.paths.cache_dir),
        make=model_maker(*build_method(kept.cfg.method)),
    )
    model, tokenizer, examples = (
        subject.weights.model,
        subject.weights.tokenizer,
        subject.examples,
    )
    # generate cannot jump over positions, so its copy of the model has a moved position table
    standalone = make_standalone(copy.deepcopy(model), examples.position_jump, True, "")[0].eval()
    prompts, targets = examples.prompts_and_targets
    expected = detokenize(tokenizer, [without_end(t, examples.eos_token_id) for t in targets])

    def score(decode: Decode) -> float:
        predictor = GreedyPredictor(model, cfg.validation.batch_size, decode)
        return evaluate(predictor, examples.at(examples.tokens_removed), task, tokenizer).accuracy

    def score_generate() -> float:
        new = generate(standalone, prompts, examples.eos_token_id, examples.longest_target)
        written = detokenize(tokenizer, [without_end(row, examples.eos_token_id) for row in new])
        pairs = list(zip(written, expected, strict=True))
        return sum(1 for w, t in pairs if task.is_correct(w, t)) / len(pairs)

    ways = {
        "verify": lambda: score("verify"),
        "always": lambda: score("always"),
        "generate": score_generate,
    }
    with precision_context(device_of(model), cfg.precision):
        accuracy = {name: way() for name, way in ways.items()}  # also the warm-up
        seconds = time_alternately(ways, cfg.repeats)
    middle = medians(seconds)
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
