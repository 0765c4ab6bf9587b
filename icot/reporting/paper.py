"""The paper's numbers (arXiv 2405.14838), read from the experiments that reproduce them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml
from omegaconf import DictConfig

from icot.config import CONFIG_MODULE, register_schemas
from icot.reporting.runs import Run

PAPER = "arXiv 2405.14838"
SIBLING = "_cpu"  # suffix of an experiment's CPU-sized sibling
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
# Of them, what a baseline does not heed, whose chain never changes.
SCHEDULED = ("schedule.tokens_per_epoch", "schedule.smoothing_lambda", "schedule.reset_optimizer")


@dataclass(frozen=True)
class PaperRow:
    """One number of the paper, or one curve.

    Attributes:
        experiment: the file that reproduces it; its CPU-sized sibling is ``sibling``.
        place: Table 2, say.
        row, column: its headings there.
        accuracy: exact match, None where the paper draws a curve.
        speed: examples per second over No CoT's, None where it is not given.
        tokens: median tokens of question, chain and answer (Table 1).
    """

    experiment: str
    place: str
    row: str
    column: str
    accuracy: float | None = None
    speed: float | None = None
    tokens: tuple[int, ...] = ()

    @property
    def sibling(self) -> str:
        """The same at CPU size."""
        return self.experiment + SIBLING

    @property
    def number(self) -> str:
        """What the paper says, as text."""
        if self.tokens:
            return " / ".join(map(str, self.tokens))
        if self.accuracy is None:
            return "a curve"
        return f"{self.accuracy:.2f}" + ("" if self.speed is None else f" at {self.speed:.2f}×")

    @property
    def command(self) -> str:
        """What reproduces it."""
        program = "prepare" if self.tokens else "train"
        return f"python -m icot.{program} experiment={self.experiment}"


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Every number that an experiment is for, in the order of the paper."""
    rows = []
    for path in files(CONFIG_MODULE).joinpath("experiment").iterdir():
        name = path.name.removesuffix(".yaml")
        if name.endswith(SIBLING) or not path.name.endswith(".yaml"):
            continue
        paper = yaml.safe_load(path.read_text(encoding="utf-8"))["paper"]
        tokens = tuple(paper.pop("tokens", ()))
        rows.append(PaperRow(name, column=paper.pop("column", ""), tokens=tokens, **paper))
    places = ("Table", "Figure", "Appendix")
    order = ["Explicit CoT", "No CoT", "ICoT-SI"]
    columns = ["GPT-2 small", "GPT-2 medium", "Phi-3 3.8B", "Mistral 7B"]

    def position(row: PaperRow) -> tuple[int, str, int, int, str]:
        return (
            places.index(row.place.split()[0]),
            row.place,
            order.index(row.row) if row.row in order else 0,
            columns.index(row.column) if row.column in columns else 0,
            row.experiment,
        )

    return tuple(sorted(rows, key=position))


def composed(experiment: str) -> DictConfig:
    """The configuration of an experiment."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    register_schemas()
    if GlobalHydra.instance().is_initialized():
        return compose("train", [f"experiment={experiment}"])
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose("train", [f"experiment={experiment}"])


def differences(runs: Sequence[Run], experiment: str) -> list[str]:
    """In what runs of an experiment's shape differ from the experiment and the paper."""
    from icot.resume import leaves

    paper, own = leaves(composed(experiment)), leaves(runs[0].cfg)
    texts = []
    for key, name in COMPARED.items():
        if key == "seed" and len(runs) > 1:
            continue
        if key in SCHEDULED and runs[0].cfg.schedule.kind == "fixed":
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
