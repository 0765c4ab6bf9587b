"""Pipelines: several commands, of which later ones use what earlier ones have made.

    outputs/pipelines/icot_kd_1a2b3c4d/
        steps.csv                   a row for each step: its state, its result, its command
        teacher/  teacher.log       a directory of each step, as its command writes it; its output
        student/  student.log

A step is an ordinary command, in YAML as one types it (``icot.config.entry_points.StepConfig``).
``<teacher>`` in an override stands for the directory of that step, which is therefore needed.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from icot.config.command_line import PIPELINE, mistakes_in, quote
from icot.config.entry_points import SCHEMAS, StepConfig
from icot.config.schema import TrainConfig
from icot.errors import ConfigError
from icot.runs.layout import CARD, EVALUATION, REPORT, SUMMARY

GROUPS_WITHOUT_KEYS = ("experiment", "recipe")  # that the commands of training have
RESULTS = {  # the first of these in a step's record is its result
    "mind_reading_accuracy": "mind-reading accuracy",
    "accuracy": "accuracy",
    "distance": "distance",
}
REFERENCE = re.compile(r"<(\w+)>")


@dataclass(frozen=True)
class Command:
    """How a command is a step.

    Attributes:
        place: the overrides that name its directory, and let it go on there.
        record: the JSON or text file of the directory that says, by being there, that it has ended.
        complete: a key that it then has.
        own: keys that no override for all steps sets, as the run that the step reads has them.
    """

    place: tuple[str, ...]
    record: str
    complete: str | None = None
    own: tuple[str, ...] = ()


COMMANDS = {
    "train": Command(("resume=auto", "hydra.run.dir={}"), SUMMARY),
    "sample": Command(("out={}",), "samples.json", complete="content_hash", own=("task",)),
    "evaluate": Command(("out={}",), EVALUATION, own=("task",)),
    "export": Command(("out={}",), CARD),
    "report": Command(("out={}",), REPORT),
}


@dataclass(frozen=True)
class Step:
    """A step of one pipeline.

    Attributes:
        name: its name, and that of its directory.
        command: such as train.
        overrides: without its own directory; ``<NAME>`` is that of another step.
        needs: names of the steps whose directories it reads.
    """

    name: str
    command: str
    overrides: tuple[str, ...]
    needs: tuple[str, ...]

    def words(self, pipeline: Path) -> list[str]:
        """The overrides with which the command runs in a pipeline's directory."""
        texts = [
            REFERENCE.sub(lambda found: _typed(pipeline / found[1]), text)
            for text in self.overrides
        ]
        place = [t.format(_typed(pipeline / self.name)) for t in COMMANDS[self.command].place]
        return [*texts, *place]

    def program(self, pipeline: Path) -> str:
        """The command as one copies it into a shell."""
        return shlex.join(["python", "-m", f"icot.{self.command}", *self.words(pipeline)])

    def is_finished(self, pipeline: Path) -> bool:
        """Whether its directory holds all that the command writes."""
        command = COMMANDS[self.command]
        path = pipeline / self.name / command.record
        found = _read(path)
        is_complete = command.complete is None or command.complete in found
        return path.is_file() and is_complete and "unfinished" not in found

    def result(self, pipeline: Path) -> str:
        """Its most important figure, ``accuracy 0.970``; "" if it has none yet."""
        record = _read(pipeline / self.name / COMMANDS[self.command].record)
        found = [
            (name, record[key]) for key, name in RESULTS.items() if record.get(key) is not None
        ]
        return f"{found[0][0]} {found[0][1]:.4g}" if found else ""


def plan_steps(
    steps: Mapping[str, StepConfig], typed: Sequence[str], folders: Sequence[str] = ()
) -> list[Step]:
    """Each step's command line, in order.

    A step has its ``fixed`` overrides, its ``settings``, those of ``typed`` for all steps that its
    command knows and whose groups are not fixed, and those of ``typed`` with its name before the
    key; of two for one key the later one counts.

    Args:
        steps: as the configuration has them.
        typed: overrides of the command line, ``task=mult4`` or ``teacher.trainer.max_steps=400``.
        folders: further folders of configuration files, for all steps.

    Raises:
        ConfigError: with all mistakes.
    """
    if not steps:
        raise ConfigError([f"there is no pipeline: add +{PIPELINE}=NAME"])
    mistakes = [m for name, step in steps.items() for m in _mistakes_of_step(name, step, steps)]
    if mistakes:
        raise ConfigError(mistakes)
    texts: dict[str, list[str]] = {name: [*s.fixed, *s.settings] for name, s in steps.items()}
    own: dict[str, list[str]] = {name: [] for name in steps}
    for text in typed:
        if (named := _for_one_step(text)) and named[0] in steps:
            own[named[0]].append(named[1])
            continue
        group = _group(text)
        takers = [name for name, step in steps.items() if _takes(step, group)]
        if not takers:
            mistakes += _nobody_takes(text, group, steps)
            takers = [] if mistakes else [next(iter(steps))]  # whose check names the mistake
        for name in takers:
            texts[name].append(text)
    if mistakes:
        raise ConfigError(mistakes)
    planned = []
    search = [f"hydra.searchpath=[{','.join(map(quote, folders))}]"] if folders else []
    for name, step in steps.items():
        by_key = {_key(text): text for text in [*texts[name], *own[name], *search]}
        needs = dict.fromkeys(REFERENCE.findall(" ".join(by_key.values())))
        planned.append(Step(name, step.command, tuple(by_key.values()), tuple(needs)))
    return planned


def check_steps(steps: Sequence[Step]) -> None:
    """Check the command lines of all steps; Hydra must be initialised.

    Raises:
        ConfigError: with all mistakes, and the steps that have each.
    """
    found: dict[str, list[str]] = {}
    for step in steps:
        for mistake in mistakes_in(step.words(Path()), step.command):
            found.setdefault(mistake, []).append(step.name)
    raise_mistakes(found, len(steps))


def raise_mistakes(found: Mapping[str, Sequence[str]], count: int) -> None:
    """Speak of the mistakes in the steps of a pipeline, if there are any.

    Args:
        found: the steps that have a mistake, by mistake.
        count: of the steps; what all have is said of none.

    Raises:
        ConfigError: there is a mistake.
    """
    if found:
        raise ConfigError(
            [m if len(names) == count else f"{', '.join(names)}: {m}" for m, names in found.items()]
        )


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of icot.pipeline itself, and those of its steps."""
    own: list[str] = []
    for_steps: list[str] = []
    known = {*SCHEMAS[PIPELINE].model_fields, PIPELINE, "hydra"} - {"paths"}
    for text in overrides:
        is_own = _group(text) in known or _key(text) == "paths.output_root"
        (own if is_own else for_steps).append(text)
    return own, for_steps


def _mistakes_of_step(
    name: str, step: StepConfig, steps: Mapping[str, StepConfig]
) -> Iterator[str]:
    key = f"steps.{name}"
    if step.command not in COMMANDS:
        yield f"{key}.command={step.command}: choose one of {', '.join(COMMANDS)}"
    elif not re.fullmatch(r"\w+", name):
        yield f"{key}: a step's name is of letters, digits and _"
    elif any(name in SCHEMAS[s.command].model_fields for s in steps.values()):
        yield f"{key}: {name} is a key of a command; choose another name for the step"
    earlier = list(steps)[: list(steps).index(name)]
    for needed in REFERENCE.findall(" ".join([*step.fixed, *step.settings])):
        if needed not in earlier:
            yield f"{key}: <{needed}> is no earlier step; there are {', '.join(earlier) or 'none'}"


def _for_one_step(text: str) -> tuple[str, str] | None:
    """``+teacher.callbacks.x=1`` as teacher and ``+callbacks.x=1``; None without such a name."""
    found = re.fullmatch(r"([+~]*)(\w+)\.(.+)", text, re.DOTALL)
    return (found[2], found[1] + found[3]) if found else None


def _key(text: str) -> str:
    return text.lstrip("+~").split("=", 1)[0]


def _group(text: str) -> str:
    return re.split(r"[./@]", _key(text))[0]


def _takes(step: StepConfig, group: str) -> bool:
    schema = SCHEMAS[step.command]
    trains = issubclass(schema, TrainConfig)
    known = group in schema.model_fields or (trains and group in GROUPS_WITHOUT_KEYS)
    own = {*COMMANDS[step.command].own, *(_group(text) for text in step.fixed)}
    return known and group not in own


def _nobody_takes(text: str, group: str, steps: Mapping[str, StepConfig]) -> list[str]:
    if setting := [n for n, s in steps.items() if group in {_group(t) for t in s.fixed}]:
        return [
            f"{text}: the steps of this pipeline set {group} themselves; to change it in one of "
            f"them, write {setting[0]}.{text}"
        ]
    near = get_close_matches(group, list(steps), n=1)
    return [f"{text}: there is no step {group}; did you mean {near[0]}?"] if near else []


def _typed(path: Path) -> str:
    """A path as Hydra's command line takes it."""
    text = str(path)
    return text if re.fullmatch(r"[\w./:-]+", text) else quote(text)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
