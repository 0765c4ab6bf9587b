"""The file names of a run directory.

outputs/RUN/
    config.yaml command.txt environment.json     how to repeat the run
    stages.csv metrics.csv summary.json          the measurements
    predictions.jsonl accuracy_by_tokens_removed.png
    model/                                       tokenizer and model configuration
    checkpoints/                                 last, step-00001200, good, best, stage-0003
    recoveries.json run.lock wandb_id.txt
    evaluations/ evaluations.csv evaluation.json     results of icot.evaluate (evaluations.py)
    probes/STAGE/                                results of icot.probe
"""

from pathlib import Path

CONFIG, COMMAND, ENVIRONMENT = "config.yaml", "command.txt", "environment.json"
STAGES, METRICS, SUMMARY = "stages.csv", "metrics.csv", "summary.json"
PREDICTIONS, FIGURE = "predictions.jsonl", "accuracy_by_tokens_removed.png"
RECOVERIES, LOCK, WANDB_ID = "recoveries.json", "run.lock", "wandb_id.txt"
MODEL, CHECKPOINTS = "model", "checkpoints"  # folders
EVALUATIONS, EVALUATIONS_INDEX = "evaluations", "evaluations.csv"  # the folder, a row for each
EVALUATION, FAILURES = "evaluation.json", "failures.png"
USAGE = "usage.json"  # of a prompted model's evaluation
PROBES, PROBE, PROBE_TABLE = "probes", "probe.json", "probe.csv"
TRADEOFF_TABLE, TRADEOFF_FIGURE = "tradeoff.csv", "tradeoff.png"

LAST_FILE, GOOD_FILE, BEST_FILE = "last.ckpt", "good.ckpt", "best.ckpt"
STAGE_FILES, STEP_FILES = "stage-*.ckpt", "step-*.ckpt"
DAMAGED = ".damaged"  # suffix of a checkpoint that is set aside

EXPORTED = "icot.json"  # in a folder of icot.export: what icot must know of the model

SWEEP_INDEX, SWEEP_LOCK = "index.csv", ".index.lock"  # of a sweep's directory
STEPS_INDEX, STEPS_LOCK = "steps.csv", ".steps.lock"  # of a pipeline's directory
CARD, PARTS, REST = "README.md", "parts.json", "rest.safetensors"  # of an exported model
REPORT = "report.html"  # the last file of icot.report


def stage_file(stage: int) -> str:
    """The name of the checkpoint at the end of a stage."""
    return f"stage-{stage:04d}.ckpt"


def stage_of_file(path: Path) -> int | None:
    """The stage of a checkpoint at the end of a stage; None for any other file."""
    name, _, number = path.stem.rpartition("-")
    return int(number) if name == "stage" and number.isdecimal() else None


def step_file(step: int) -> str:
    """The name of the resumable checkpoint after an optimizer step."""
    return f"step-{step:08d}.ckpt"


def predictions_file(stage: str) -> str:
    """The name of the predictions of one stage when several are evaluated."""
    return f"predictions-{stage}.jsonl"


def step_log(pipeline: Path, step: str) -> Path:
    """The file with what a pipeline's step has printed."""
    return pipeline / f"{step}.log"
