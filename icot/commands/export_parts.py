"""The export of a model of several causal LMs, such as emulator and student of ICoT-KD.

Measures the accuracy on the card, writes the folder, reads it back as ``icot.load`` does, and
compares what it writes for all of the measured examples.
"""

from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from icot.commands.build_method import model_maker
from icot.config.entry_points import ExportConfig
from icot.errors import ModelError
from icot.evaluation.loading import Subject, restore_weights
from icot.evaluation.measurement import numbers
from icot.evaluation.scoring import evaluate
from icot.methods.base import Method, Options, PredictorParts
from icot.models.introspection import config_of, device_of
from icot.reporting.parts_card import parts_card
from icot.runs.checkpoints import FINAL, select_stage
from icot.runs.exported import save_parts
from icot.runs.kept_run import KeptRun
from icot.runs.layout import CARD, CONFIG
from icot.system.files import write_text
from icot.system.output import write_at_once


def export_parts(
    cfg: ExportConfig, out: Path, subject: Subject, method: Method, options: Options
) -> None:
    """Measure, write, read back and compare.

    Args:
        cfg: the command's.
        out: the folder, which the caller has locked.
        subject: the weights and the examples.
        method: has ``export_parts``.
        options: of the method.

    Raises:
        ModelError: the weights are adapters, or the folder answers otherwise than the run.
    """
    model, tokenizer = subject.weights.model, subject.weights.tokenizer
    run, task, device = subject.run, subject.source.task, device_of(model)
    assert method.export_parts is not None
    if run.cfg.model.lora.r is not None:
        raise ModelError("the parts of a model with adapters are not exported; train without LoRA.")
    parts = method.export_parts(model)

    def predictor(model: Any) -> Any:
        return method.build_predictor(PredictorParts(model, run.trusted, cfg.batch_size), options)

    found = evaluate(predictor(model), subject.examples, task, tokenizer)
    checkpoint = subject.checkpoint
    kept = run.cfg.as_dict()
    kept["model"]["attn_implementation"] = config_of(model)._attn_implementation
    with write_at_once(out) as folder:
        model.cpu()
        names = ("stage", "tokens_removed", "everything_removed", "method")
        about = {"trained_at": {name: getattr(checkpoint, name) for name in names}}
        save_parts(folder, model, parts, about)
        for name in parts:
            tokenizer.save_pretrained(folder / name)
        text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
        write_text(folder / CONFIG, text)
        loaded = KeptRun(folder, run.trusted)
        again, _ = restore_weights(
            loaded, select_stage(loaded, FINAL)[0], task, model_maker(method, options)
        )
        read_back = evaluate(predictor(again.to(device)), subject.examples, task, tokenizer)
        pairs = zip(found.predictions, read_back.predictions, strict=True)
        same = sum(a.prediction == b.prediction for a, b in pairs)
        if same < found.n:
            raise ModelError(
                f"the folder would answer {found.n - same} of {found.n} questions otherwise than "
                "the run; nothing was written."
            )
        first = found.predictions[0]
        card = parts_card(
            task=task.name,
            title=method.title or method.name,
            figures={**numbers(found), "split": cfg.split},
            parts=list(parts),
            question=first.question,
            printed=first.prediction,
            correct=first.target,
            longest=subject.examples.longest_target,
            trained_in=f"{run.folder.name}, {checkpoint.path.name}",
        )
        write_text(folder / CARD, card)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"exact match {found.accuracy:.4f} on {found.n:,} examples")
    console.print(f"Read back with icot.load, the folder writes the same for all {found.n:,}.")
    console.print(f"Written: {out}")
