"""In what runs differ from the experiment that they have the shape of, and from the paper."""

from collections.abc import Sequence

from icot.config.command_line import compose_config
from icot.config.identity import leaves, matches
from icot.config.section import Section
from icot.reporting.runs import OTHER_THAN_A_SERIES, Run, Series, gather_series

# Keys that matter to a result, with their names in a comparison.
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
    """Of an experiment's finished runs the series that changes the fewest of its settings."""
    own = [run for run in runs if run.experiment == experiment and run.finished]
    if not own:
        return None
    written = leaves(compose_experiment(experiment).as_dict())

    def changed(series: Series) -> int:
        found = leaves(series.cfg.as_dict())
        keys = [key for key in found if not matches(key, OTHER_THAN_A_SERIES)]
        return sum(str(found[key]) != str(written.get(key)) for key in keys)

    return min(gather_series(own), key=changed)


def differences(runs: Sequence[Run], experiment: str) -> list[str]:
    """In what runs of an experiment's shape differ from the experiment and the paper."""
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
