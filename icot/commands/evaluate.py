"""``python -m icot.evaluate``: how good and how fast a run's stages are, and where they fail.

    python -m icot.evaluate run_dir=outputs/RUN                        the final weights
    python -m icot.evaluate run_dir=outputs/RUN stage=all split=test   and the trade-off curve
    python -m icot.evaluate checkpoint=FILE data_file=FILE
    python -m icot.evaluate predictions=FILE                           what another program wrote

Composes the parts; ``icot.evaluation`` measures.
"""

import json
import os
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from rich.console import Console

from icot.commands.build import build_method, build_task
from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import EvaluateConfig
from icot.errors import DataError, RunError
from icot.evaluation.failures import POSITION, answer_positions
from icot.evaluation.loading import Source, load_for_evaluation
from icot.evaluation.measurement import Measured, as_rows, measure, share
from icot.evaluation.predictions import read_predictions, write_predictions
from icot.evaluation.tradeoff import tradeoff_rows, write_tradeoff
from icot.methods.base import PredictorParts
from icot.reporting.figures import failures, tradeoff
from icot.reporting.tables import print_evaluations
from icot.runs.checkpoints import ALL, FINAL, Checkpoint, select, select_stage
from icot.runs.kept_run import KeptRun
from icot.runs.layout import (
    EVALUATION,
    FAILURES,
    PREDICTIONS,
    TRADEOFF_FIGURE,
    TRADEOFF_TABLE,
    predictions_file,
)
from icot.system.files import write_text
from icot.system.hardware import precision_context
from icot.tasks.answers import extract_answer
from icot.tasks.text_files import TextFiles


def run(cfg: EvaluateConfig, command: CommandLine) -> None:
    """Measure, write the files, print the table."""
    evaluate(cfg)


def evaluate(cfg: EvaluateConfig) -> dict[str, Any]:
    """The same; returns what ``evaluation.json`` says."""
    quiet_libraries()
    return score_run(cfg) if cfg.predictions is None else score_file(cfg)


def score_file(cfg: EvaluateConfig) -> dict[str, Any]:
    """Score what another program wrote, by the official extraction."""
    assert cfg.predictions is not None
    path = Path(cfg.predictions)
    found = read_predictions(
        path, lambda text, target: extract_answer(text) == extract_answer(target)
    )[: cfg.examples]
    positions = answer_positions(found, extract_answer)
    record = {
        "predictions": str(path),
        **share(sum(p.correct for p in found), len(found)),
        "failures": {POSITION: as_rows(positions)},
    }
    out = _folder(cfg, path.parent)
    _write_json(out / EVALUATION, record)
    console = Console()
    print_evaluations(console, [{**record, "name": path.name}])
    console.print(f"Written: {out / EVALUATION}", highlight=False, soft_wrap=True)
    return record


def score_run(cfg: EvaluateConfig) -> dict[str, Any]:
    """Score the weights that the configuration names, and draw what there is to draw."""
    kept, chosen = select(cfg.run_dir, cfg.checkpoint, cfg.stage, cfg.trust)
    everything = cfg.checkpoint is None and cfg.stage == ALL
    out = _folder(cfg, kept.folder)
    console = Console()
    source = _source(cfg, kept)
    baselines = [KeptRun(folder, cfg.trust) for folder in cfg.baselines]
    others = [(run, select_stage(run, FINAL)[0], _source(cfg, run)) for run in baselines]
    measured: list[Measured] = []
    for checkpoint in chosen:
        done = _measure(cfg, kept, checkpoint, source)
        measured.append(done)
        name = predictions_file(done.record["name"]) if everything else PREDICTIONS
        write_predictions(out / name, done.predictions)
    last = measured[-1]
    record = dict(last.record)
    if everything:
        write_predictions(out / PREDICTIONS, last.predictions)
        record["stages"] = [one.record for one in measured]
    _write_json(out / EVALUATION, record)
    written = [EVALUATION, PREDICTIONS]
    if any(last.failures.values()):
        title = f"{record['task']}, {record['title']}: where it fails"
        failures(last.failures, out / FAILURES, title)
        written.append(FAILURES)
    print_evaluations(console, [one.record for one in measured])
    if everything and cfg.speed.examples:
        measured_baselines = [_measure(cfg, *other) for other in others]
        _tradeoff(out, measured, measured_baselines, record)
        written += [TRADEOFF_TABLE, TRADEOFF_FIGURE]
    console.print(f"Written into {out}: {', '.join(written)}", highlight=False, soft_wrap=True)
    return record


def _source(cfg: EvaluateConfig, run: KeptRun) -> Source:
    """The run's own split, or the file in its place; judged by the run's task either way."""
    if cfg.data_file is None:
        try:
            task = build_task(run.cfg.task)
        except DataError as error:
            raise DataError(
                f"{run.folder}: the run's own data are not to be had: {error} To evaluate, start "
                "where the training started, or set data_file=."
            ) from None
        return Source.own(task, cfg.split)
    path = Path(cfg.data_file)
    if not path.is_file():
        raise DataError(f"data_file={path}: no such file.")
    texts = TextFiles(path.parent, None, path.name, None, on_bad_line=cfg.on_bad_line)
    own = issubclass(get_class(run.cfg.task.target), TextFiles)
    return Source(texts if own else build_task(run.cfg.task), texts, "valid", str(path))


def _measure(cfg: EvaluateConfig, run: KeptRun, checkpoint: Checkpoint, source: Source) -> Measured:
    subject = load_for_evaluation(
        run,
        checkpoint,
        source,
        tokens_removed=cfg.tokens_removed,
        limit=cfg.examples,
        accelerator=cfg.accelerator,
        cache_dir=Path(cfg.paths.cache_dir),
    )
    method, options = build_method(run.cfg.method)
    parts = PredictorParts(subject.model, cfg.batch_size, cfg.decode)
    predictor = method.build_predictor(parts, options)
    with precision_context(predictor.device, cfg.precision):
        return measure(
            predictor,
            subject.examples,
            subject.tokenizer,
            source,
            about={**subject.describe(), "precision": cfg.precision},
            timed=cfg.speed.examples,
            seconds=cfg.speed.seconds,
        )


def _tradeoff(
    out: Path, stages: list[Measured], baselines: list[Measured], record: dict[str, Any]
) -> None:

    rows = tradeoff_rows(
        [one.tradeoff_point() for one in stages]
        + [one.tradeoff_point(baseline=True) for one in baselines]
    )
    write_tradeoff(out / TRADEOFF_TABLE, rows)
    n, device = record["n"], record["device"]
    tradeoff(rows, out / TRADEOFF_FIGURE, f"{record['task']}, {n:,} examples", f" ({device})")


def _folder(cfg: EvaluateConfig, beside: Path) -> Path:
    """Where the files go.

    Raises:
        RunError: it cannot be made or written.
    """
    folder = Path(cfg.out) if cfg.out is not None else beside
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"out={folder}: cannot be made ({error.strerror}).") from None
    if not os.access(folder, os.W_OK):
        raise RunError(f"{folder} cannot be written into; set out= to another folder.")
    return folder


def _write_json(path: Path, record: dict[str, Any]) -> None:
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
