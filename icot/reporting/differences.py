"""How runs differ from their experiment, and from the paper."""

from collections.abc import Sequence
from functools import cache

from icot.config.command_line import compose_config
from icot.config.identity import leaves, matches
from icot.config.section import Section
from icot.reporting.runs import Run
from icot.reporting.series import Series, gather_series, short

# Names of keys in a comparison; other keys are named as they are.
NAMES = {
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
    "schedule.chain_loss": "loss on the removed chain",
    "schedule.filler": "filler tokens",
    "schedule.filler_count": "number of filler tokens",
    "schedule.dial_share": "share of rows at earlier stages",
    "data.batch_size": "batch",
    "trainer.accumulate_grad_batches": "accumulation",
    "trainer.precision": "precision",
    "trainer.max_epochs": "epochs",
    "trainer.max_steps": "steps",
    "trainer.finish_steps": "steps after the last removal",
    "seed": "seed",
}
# Keys of validation and of the implementation, which the paper's numbers do not depend on; and BOS,
# which the paper does not mention.
NOT_COMPARED = (
    "validation",
    "model.attn_implementation",
    "model.architecture",
    "model.add_bos",
)


@cache
def compose_experiment(experiment: str) -> Section:
    """The configuration of an experiment."""
    return compose_config("train", [f"experiment={experiment}"])


def of_experiment(
    runs: Sequence[Run], experiment: str, method: str = "icot_si"
) -> tuple[list[Run], list[Run]]:
    """A method's finished runs of an experiment: those comparable to its number, and the others.

    Comparable runs have removed the whole chain, or nothing if the number is for explicit CoT.
    """
    named = [run for run in runs if run.experiment == experiment and run.method == method]
    own = [run for run in named if run.finished]
    if not own:
        return [], []
    explicit = leaves(compose_experiment(experiment).as_dict()).get("schedule.tokens_removed") == 0

    def is_comparable(run: Run) -> bool:
        if explicit:
            return run.summary.get("tokens_removed") == 0
        return bool(run.summary.get("fully_internalized"))

    comparable = [run for run in own if is_comparable(run)]
    return comparable, [run for run in own if not is_comparable(run)]


def nearest(runs: Sequence[Run], experiment: str) -> Series | None:
    """The series among runs of an experiment that changes the fewest of its settings."""
    if not runs:
        return None
    expected = leaves(compose_experiment(experiment).as_dict())

    def count_changes(series: Series) -> int:
        settings = series.runs[0].settings
        return sum(value != str(expected.get(key)) for key, value in settings.items())

    return min(gather_series(runs), key=count_changes)


def differences(runs: Sequence[Run], experiment: str) -> list[str]:
    """How runs differ from an experiment, in words; ``experiment`` has the paper's settings."""
    paper = leaves(compose_experiment(experiment).as_dict())
    keys = dict.fromkeys([*NAMES, *(key for run in runs for key in run.settings)])
    texts = []
    for key in keys:
        if key == "seed":
            ours = {str(run.cfg.seed) for run in runs} if len(runs) == 1 else set()
        else:
            ours = {run.settings[key] for run in runs if key in run.settings}
        theirs = str(paper.get(key))
        if ours - {theirs} and not matches(key, NOT_COMPARED):
            values = ", ".join(sorted(map(short, ours)))
            texts.append(f"{NAMES.get(key, key)} {values} (paper {short(theirs)})")
    weights = {n for run in runs if (n := run.environment.get("parameters"))}
    if weights:
        texts.append(" or ".join(f"{n / 1e6:.1f}" for n in sorted(weights)) + " million weights")
    machines = sorted({run.machine for run in runs})
    texts.append(f"on {'; '.join(machines)} (paper: one H100)")
    return texts
