"""End-of-stage validation: verify-then-decode and decoding always against ``generate``."""

import copy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from icot.benchmarks.plain_loop import generate
from icot.benchmarks.turns import by_turns, medians
from icot.commands.build import build_task
from icot.evaluation.measurement import Source, loaded, precision_context
from icot.evaluation.scoring import evaluate, texts
from icot.inference.greedy import without_end
from icot.models.export import make_standalone
from icot.runs.checkpoints import KeptRun


def measure(cfg: DictConfig) -> dict[str, Any]:
    """Verify-then-decode and decoding always against ``generate``, on a run's weights."""
    kept = KeptRun(cfg.run_dir)
    task = build_task(kept.cfg)
    source = Source.own(task, "valid")
    checkpoint = kept.select(cfg.stage)[0]
    model, tokenizer, examples = loaded(
        kept,
        checkpoint,
        source,
        None,
        cfg.examples,
        cfg.trainer.accelerator,
        Path(cfg.paths.cache_dir),
    )
    # generate counts positions on, so its copy of the model has its table moved where ours jumps
    in_one_piece = make_standalone(copy.deepcopy(model), examples.position_jump, True, "")[0].eval()
    prompts, targets = examples.as_tokens()
    wanted = texts(tokenizer, [without_end(t, examples.eos_token_id) for t in targets])

    def score(how: Any) -> float:
        found = evaluate(model, examples, task, tokenizer, cfg.validation.batch_size, how)
        return found.accuracy

    def plain() -> float:
        new = generate(in_one_piece, prompts, examples.eos_token_id, examples.longest_target)
        written = texts(tokenizer, [without_end(row, examples.eos_token_id) for row in new])
        pairs = list(zip(written, wanted, strict=True))
        return sum(1 for w, t in pairs if task.is_correct(w, t)) / len(pairs)

    ways = {"verify": lambda: score("verify"), "always": lambda: score("always"), "generate": plain}
    with precision_context(model, cfg.precision):
        accuracy = {name: way() for name, way in ways.items()}  # also the warm-up
        seconds = by_turns(ways, cfg.repeats)
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
