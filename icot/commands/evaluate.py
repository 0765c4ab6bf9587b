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
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from icot.cli import quiet_libraries, run
from icot.runs.layout import (
    EVALUATION,
    FAILURES,
    PREDICTIONS,
    TRADEOFF_FIGURE,
    TRADEOFF_TABLE,
    predictions_file,
)

if TYPE_CHECKING:
    from icot.evaluation.loading import Source
    from icot.evaluation.measurement import Measured
    from icot.runs.checkpoints import Checkpoint, KeptRun


def evaluate(cfg: DictConfig) -> None:
    """Measure, write the files, print the table."""
    from icot.config.checks import check_values
    from icot.errors import ConfigError

    if mistakes := check_values(cfg):
        raise ConfigError(mistakes)
    quiet_libraries()
    if cfg.predictions is not None:
        score_file(cfg)
    else:
        score_run(cfg)


def score_file(cfg: DictConfig) -> None:
    """Score what another program wrote, by the official extraction."""
    from rich.console import Console

    from icot.evaluation.failures import POSITION, answer_positions
    from icot.evaluation.measurement import as_rows, share
    from icot.evaluation.predictions import read_predictions
    from icot.reporting.tables import print_evaluations
    from icot.tasks.answers import extract_answer

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


def score_run(cfg: DictConfig) -> None:
    """Score the weights that the configuration names, and draw what there is to draw."""
    from rich.console import Console

    from icot.evaluation.predictions import write_predictions
    from icot.reporting.figures import failures
    from icot.reporting.tables import print_evaluations
    from icot.runs.checkpoints import ALL, FINAL, KeptRun, select

    kept, chosen = select(cfg.run_dir, cfg.checkpoint, cfg.stage)
    everything = cfg.checkpoint is None and cfg.stage == ALL
    out = _folder(cfg, kept.folder)
    console = Console()
    source = _source(cfg, kept)
    others = [(run, run.select(FINAL)[0], _source(cfg, run)) for run in map(KeptRun, cfg.baselines)]
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
        baselines = [_measure(cfg, *other) for other in others]
        _tradeoff(out, measured, baselines, record)
        written += [TRADEOFF_TABLE, TRADEOFF_FIGURE]
    console.print(f"Written into {out}: {', '.join(written)}", highlight=False, soft_wrap=True)


def _source(cfg: DictConfig, run: "KeptRun") -> "Source":
    """The run's own split, or the file in its place; judged by the run's task either way."""
    from hydra.utils import get_class

    from icot.commands.build import build_task
    from icot.errors import DataError
    from icot.evaluation.loading import Source
    from icot.tasks.text_files import TextFiles

    if cfg.data_file is None:
        try:
            task = build_task(run.cfg)
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
    own = issubclass(get_class(run.cfg.task._target_), TextFiles)
    return Source(texts if own else build_task(run.cfg), texts, "valid", str(path))


def _measure(
    cfg: DictConfig, run: "KeptRun", checkpoint: "Checkpoint", source: "Source"
) -> "Measured":
    from icot.evaluation.loading import load_for_evaluation
    from icot.evaluation.measurement import measure
    from icot.inference.predictor import GreedyPredictor
    from icot.system.hardware import precision_context

    subject = load_for_evaluation(
        run,
        checkpoint,
        source,
        tokens_removed=cfg.tokens_removed,
        limit=cfg.examples,
        accelerator=cfg.accelerator,
        cache_dir=Path(cfg.paths.cache_dir),
    )
    predictor = GreedyPredictor(subject.model, cfg.batch_size, cfg.decode)
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
    out: Path, stages: "list[Measured]", baselines: "list[Measured]", record: dict[str, Any]
) -> None:
    from icot.evaluation.tradeoff import tradeoff_rows, write_tradeoff
    from icot.reporting.figures import tradeoff

    rows = tradeoff_rows(
        [one.tradeoff_point() for one in stages]
        + [one.tradeoff_point(baseline=True) for one in baselines]
    )
    write_tradeoff(out / TRADEOFF_TABLE, rows)
    n, device = record["n"], record["device"]
    tradeoff(rows, out / TRADEOFF_FIGURE, f"{record['task']}, {n:,} examples", f" ({device})")


def _folder(cfg: DictConfig, beside: Path) -> Path:
    """Where the files go.

    Raises:
        RunError: it cannot be made or written.
    """
    from icot.errors import RunError

    folder = Path(cfg.out) if cfg.out is not None else beside
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"out={folder}: cannot be made ({error.strerror}).") from None
    if not os.access(folder, os.W_OK):
        raise RunError(f"{folder} cannot be written into; set out= to another folder.")
    return folder


def _write_json(path: Path, record: dict[str, Any]) -> None:
    from icot.system.files import write_text

    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """The command."""
    run("evaluate", evaluate)
