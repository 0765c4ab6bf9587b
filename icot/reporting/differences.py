"""How runs differ from their experiment, and from the paper."""

from collections.abc import Sequence

from icot.config.command_line import compose_config
from icot.config.identity import leaves, matches
from icot.config.section import Section
from icot.reporting.runs import IGNORED_IN_SERIES, Run, Series, gather_series

# Keys that affect a result, with their names in a comparison.
COMPARED = {
    "task._target_": "task",
    "task.digits": "digits",
    "task.chain": "chain",
    "task.dataset": "data set",
    "task.train_size": "training examples",
    "model.name_or_path": "model",
    "model.pretrained": "pretrained",
    "optimizer.name": "optimizer",
    "optimizer.lr": "learning rate",
    "schedule.kind": "schedule",
    "schedule.tokens_per_epoch": "Δ",
    "schedule.smoothing_lambda": "λ",
    "schedule.side": "side",
    "schedule.reset_optimizer": "optimizer reset",
    "schedule.keep_position_ids": "position ids kept",
    "data.batch_size": "batch",
    "trainer.accumulate_grad_batches": "accumulation",
    "trainer.precision": "precision",
    "trainer.max_epochs": "epochs",
    "trainer.max_steps": "steps",
    "seed": "seed",
}


def compose_experiment(experiment: str) -> Section:
    """The configuration of an experiment."""
    return compose_config("train", [f"experiment={experiment}"])


def nearest(runs: Sequence[Run], experiment: str) -> Series | None:
    """The finished series of an experiment that changes the fewest of its settings."""
    finished = [run for run in runs if run.experiment == experiment and run.finished]
    if not finished:
        return None
    expected = leaves(compose_experiment(experiment).as_dict())

    def count_changes(series: Series) -> int:
        values = leaves(series.cfg.as_dict())
        keys = [key for key in values if not matches(key, IGNORED_IN_SERIES)]
        return sum(str(values[key]) != str(expected.get(key)) for key in keys)

    return min(gather_series(finished), key=count_changes)


def differences(runs: Sequence[Run], experiment: str) -> list[str]:
    """How runs differ from an experiment, in words; ``experiment`` has the paper's settings."""
    paper, own = leaves(compose_experiment(experiment).as_dict()), leaves(runs[0].cfg.as_dict())
    texts = []
    for key, name in COMPARED.items():
        if key == "seed" and len(runs) > 1:
            continue
        ours, theirs = own.get(key), paper.get(key)
        if str(ours) != str(theirs) and ours is not None:
            texts.append(f"{name} {_short(ours)} (paper {_short(theirs)})")
    weights = runs[0].environment.get("parameters")
    if weights:
        texts.append(f"{weights / 1e6:.1f} million weights")
    texts.append(f"on {runs[0].machine} (paper: one H100)")
    return texts


def _short(value: object) -> str:
    if value is None:
        return "all"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).rsplit(".", 1)[-1] if str(value).startswith("icot.") else str(value)
