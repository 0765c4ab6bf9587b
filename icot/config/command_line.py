"""The command line: the user's choices as one object, and all mistakes in them before any work.

python -m icot.train task=mult4 schedule.tokens_per_epoch=4
                     ^ option of a group    ^ value of a key
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from icot.config.checks import (
    SHAPE,
    choose,
    mistakes_of,
    mistakes_of_callbacks,
    mistakes_of_choices,
    validate,
)
from icot.config.entry_points import SCHEMAS, register_schemas
from icot.config.experiments import CONFIG_MODULE, of_another_command, short_name
from icot.config.experiments import GROUP as EXPERIMENT
from icot.config.options import CHOSEN_BY, SECTIONS
from icot.config.section import Section
from icot.errors import first_line

NOTHING = "null"  # the option of a group of which none is chosen
INTERNAL_GROUPS = {"schema", "settings", "hydra"}
REQUIRED = (
    *("task", "teacher", "model", "schedule", "optimizer"),
    *("trainer", "method", "logger", "callbacks"),
)
RECIPE = "recipe"
SWEEP = "sweep"  # the group that is added, not chosen: -m +sweep=NAME
PIPELINE = "pipeline"  # as well: icot.pipeline +pipeline=NAME
NOT_RESOLVED = "paths.output_dir"  # Hydra knows it only when it runs


@dataclass(frozen=True)
class CommandLine:
    """The command line of a run.

    Attributes:
        name: the command's, such as train.
        overrides: of this run, without what the program has added.
        choices: the option of each configuration group.
        sweep: the directory of the sweep that the run belongs to, None for a single run.
        subdir: the run's place in it.
        program: what was typed, to the program's own additions, as words of a shell.
        for_steps: overrides of a pipeline's steps.
    """

    name: str
    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    sweep: Path | None = None
    subdir: str = ""
    program: tuple[str, ...] = ()
    for_steps: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """A command line that makes this very run; a sweep's runs have one of their own."""
        words = list(self.program)
        if self.sweep is not None:
            job = list(self.overrides)
            if any(text.startswith(f"+{SWEEP}=") for text in job):
                # The sweep chooses an experiment, or a recipe.
                group = EXPERIMENT if self.choices[EXPERIMENT] != NOTHING else RECIPE
                kept = [t for t in job if not t.startswith((f"+{SWEEP}=", f"{group}="))]
                job = [f"{group}={self.choices[group]}", *kept]
            folder = str(self.sweep / self.subdir)
            typed = folder if re.fullmatch(r"[\w./:-]+", folder) else quote(folder)
            words = ["python", "-m", f"icot.{self.name}", *job, f"hydra.run.dir={typed}"]
        return shlex.join(words)


def chosen_options(choices: Mapping[str, Any]) -> dict[str, str]:
    """The options by group that Hydra has composed from, without its own groups."""
    return {
        key: option_name(key, option)
        for key, option in choices.items()
        if "/" not in key and not key.startswith("hydra")
    }


def option_name(group: str, option: Any) -> str:
    """An option as a run directory names it; an experiment by its short name."""
    if option is None:
        return NOTHING
    return short_name(str(option)) if group == EXPERIMENT else str(option)


def named_values(overrides: Sequence[str]) -> dict[str, str]:
    """The overrides of a command line by key, as they were typed."""
    return dict(text.lstrip("+").split("=", 1) for text in overrides if "=" in text)


def quote(text: str) -> str:
    """A text as Hydra's command line takes it, whatever characters it has."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def unquote(text: str) -> str:
    """A text of Hydra's command line without its quotation marks."""
    for mark in ("'", '"'):
        if len(text) > 1 and text.startswith(mark) and text.endswith(mark):
            return text[1:-1].replace(f"\\{mark}", mark)
    return text


def name_folders(arguments: Sequence[str]) -> list[str]:
    """A command line of icot.report with its bare words, which are folders, as ``runs=[...]``."""
    args, _ = get_args_parser().parse_known_args(list(arguments))
    bare = [a for a in args.overrides if "=" not in a or Path(a).is_dir()]
    if not bare or any(a.startswith("runs=") for a in arguments):
        return list(arguments)
    rest = [a for a in arguments if a not in bare]
    return [*rest, f"runs=[{','.join(quote(folder) for folder in bare)}]"]


def compose_values(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration that a command line composes; Hydra must be initialised.

    The run's directory, which Hydra sets when it runs, is left empty.
    """
    cfg = compose(config_name=config_name, overrides=list(overrides))
    paths = cfg.paths
    if isinstance(paths, DictConfig) and "${hydra:" in str(paths._get_node("output_dir")):
        OmegaConf.update(cfg, NOT_RESOLVED, "")
    return cfg


def compose_config(config_name: str, overrides: Sequence[str]) -> Section:
    """The typed configuration that overrides compose, inside or outside a Hydra program.

    Raises:
        ConfigError: with all mistakes.
    """
    register_schemas()
    if GlobalHydra.instance().is_initialized():
        return validate(compose_values(config_name, overrides), SCHEMAS[config_name])
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return validate(compose_values(config_name, overrides), SCHEMAS[config_name])


def mistakes_in(overrides: Sequence[str], config_name: str, multirun: bool = False) -> list[str]:
    """Every mistake in a command line's overrides; Hydra must be initialised.

    Unknown groups, options and keys are named with the nearest valid name, also behind ``+``.
    """
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    mistakes: list[str] = []
    parsed: list[Override] = []
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])
            if override.is_sweep_override() and not multirun:
                mistakes.append(f"{text}: several values start several runs; add -m")
            parsed.append(override)
        except HydraException as error:
            mistakes.append(f"{text}: {first_line(error)}")
    options = GroupOptions(config_name)
    good: list[Override] = []
    values: list[Override] = []
    for override in parsed:
        key = override.key_or_group
        if _is_of_hydra(override):
            good.append(override)
        elif key in options.groups:
            found = options.mistakes(override, multirun)
            if key == EXPERIMENT and not found:
                found = of_another_command(_options_of(override), config_name)
            mistakes += found
            good += [] if found else [override]
        elif override.is_delete():
            good.append(override)
        else:
            values.append(override)
    chosen = [_as_choice(o) for o in good if o.key_or_group in options.groups]
    try:
        base = compose_values(config_name, list({c.split("=")[0]: c for c in chosen}.values()))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        return [*mistakes, first_line(error)]
    if unchosen := mistakes_of_choices(base, SCHEMAS[config_name]):
        return mistakes or unchosen
    varied = _varied_by_sweep(config_name, chosen, {o.key_or_group for o in parsed})
    keys = sorted(_keys(base))
    for override in [*values, *(o for o in varied if o.key_or_group not in options.groups)]:
        mistake = _unknown_key(override, base, keys, options.groups)
        mistakes += [mistake] if mistake else []
        good += [] if mistake else [override]
    good += [o for o in varied if o.key_or_group in options.groups]
    if any(o.key_or_group == "resume" and o.value() not in (None, "auto") for o in good):
        return mistakes  # the values belong to another configuration, that of the run
    mistakes += _shape_of_pretrained(good, base)
    mistakes += _mistakes_in_hydra([o for o in good if _is_of_hydra(o)], config_name)
    good = [o for o in good if not _is_of_hydra(o)]
    return list(dict.fromkeys([*mistakes, *_mistakes_in_values(good, config_name)]))


class GroupOptions:
    """The configuration groups and their options; Hydra must be initialised.

    Hydra's own look-up copies all that it has read at every call, which takes seconds in all.
    """

    def __init__(self, config_name: str = "") -> None:
        self._has_steps = config_name == PIPELINE
        loader: Any = GlobalHydra.instance().config_loader()
        self._repository = loader.repository
        found = self._repository.get_group_options("", ObjectType.GROUP)
        self.groups = sorted(g for g in found if g not in INTERNAL_GROUPS)

    def of(self, group: str) -> list[str]:
        """A group's options, those in folders with the folder's name."""
        own = self._repository.get_group_options(group, ObjectType.CONFIG)
        inner = self._repository.get_group_options(group, ObjectType.GROUP)
        return sorted(
            [o for o in own if o not in inner]
            + [f"{folder}/{option}" for folder in inner for option in self.of(f"{group}/{folder}")]
        )

    def mistakes(self, override: Override, multirun: bool) -> list[str]:
        """The mistakes in the choice of an option."""
        key = override.key_or_group
        if key == SWEEP and not (multirun and override.is_add()):
            return [f"{override.input_line}: start a sweep with -m +{key}=NAME"]
        if key == PIPELINE and not (self._has_steps and override.is_add()):
            return [f"{override.input_line}: start it with python -m icot.{key} +{key}=NAME"]
        chosen = _options_of(override)
        if override.is_sweep_override() and not chosen:
            return [f"{override.input_line}: there is no {key} of that name"]
        if not chosen or (key in REQUIRED and (override.is_delete() or None in chosen)):
            return [f"{override.input_line}: {choose('', self.of(key))}"]
        if None in chosen:
            return [f"{override.input_line}: names none; leave {key} out"]
        allowed = self.of(key)
        short = [option for option in allowed if "/" not in option]
        return [
            f"{key}={option}: {choose(option, short)}" for option in chosen if option not in allowed
        ]


def _as_choice(override: Override) -> str:
    """An override of a group, with the first option of several that it sweeps over."""
    key = override.key_or_group
    option = next(iter(_options_of(override)), None)
    shown = NOTHING if option is None else option
    return f"{'+' * (key in (SWEEP, PIPELINE))}{key}={shown}"


def _varied_by_sweep(config_name: str, chosen: Sequence[str], given: set[str]) -> list[Override]:
    """The keys that a named sweep varies, without those that the command line sets."""
    if not any(text.startswith(f"+{SWEEP}=") for text in chosen):
        return []
    cfg = compose(config_name, [c for c in chosen if SWEEP in c], return_hydra_config=True)
    params = cfg.hydra.sweeper.get("params") or {}
    texts = [f"{key}={value}" for key, value in params.items() if key not in given]
    return OverridesParser.create().parse_overrides(texts)


def _mistakes_in_values(overrides: Sequence[Override], config_name: str) -> list[str]:
    """The mistakes of the configurations that the overrides compose, with each swept value once."""
    fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
    swept = [list(o.sweep_string_iterator()) for o in overrides if o.is_choice_sweep()]
    keys = [o.get_key_element() for o in overrides if o.is_choice_sweep()]
    first = [f"{key}={choices[0]}" for key, choices in zip(keys, swept, strict=True)]
    jobs = [[*fixed, *first]]
    for i, (key, choices) in enumerate(zip(keys, swept, strict=True)):
        jobs += [[*fixed, *first[:i], f"{key}={c}", *first[i + 1 :]] for c in choices[1:]]
    mistakes: list[str] = []
    for job in jobs:
        try:
            composed = compose_values(config_name, job)
            mistakes += mistakes_of(composed, SCHEMAS[config_name])
            mistakes += mistakes_of_callbacks(OmegaConf.to_container(composed).get("callbacks"))  # type: ignore[union-attr]
        except (HydraException, OmegaConfBaseException) as error:
            mistakes.append(first_line(error))
    return mistakes


def _is_of_hydra(override: Override) -> bool:
    return override.key_or_group.split(".")[0].split("/")[0] == "hydra"


def _mistakes_in_hydra(overrides: Sequence[Override], config_name: str) -> list[str]:
    """What Hydra says of its own keys."""
    mistakes = []
    options = [o for o in overrides if "/" in o.key_or_group]  # hydra/launcher=joblib
    for override in overrides:
        own = [] if override in options else [override]
        together = [str(o.input_line) for o in [*options, *own]]
        try:
            cfg = compose(config_name, together, return_hydra_config=True)
            for part in ("launcher", "sweeper"):
                if OmegaConf.select(cfg, f"hydra.{part}._target_") is None:
                    mistakes.append(f"{override.input_line}: hydra.{part} must name a class")
            OmegaConf.select(cfg, override.key_or_group.replace("/", "."))
        except InterpolationResolutionError as error:  # some values are known only in a run
            if isinstance(error, InterpolationKeyError):
                mistakes.append(f"{override.input_line}: {first_line(error)}")
        except Exception as error:  # Hydra raises anything on values of another kind
            reason = error.__cause__ or error
            mistakes.append(f"{override.input_line}: {first_line(reason)}")
    return mistakes


def _unknown_key(
    override: Override, base: DictConfig, keys: Sequence[str], groups: Sequence[str]
) -> str | None:
    """The mistake of a key that does not exist, or not for the chosen option."""
    key = override.key_or_group
    if key in keys or (_is_open(override, base) and override.type is not OverrideType.CHANGE):
        return None
    group = key.partition(".")[0]
    typed = f"{override.input_line}: there is no {key}"
    others = _keys_of_other_options(group) if isinstance(base.get(group), DictConfig) else {}
    if key in others:
        here = base[group].get(CHOSEN_BY[group])
        return (
            f"{override.input_line}: {key} has no effect with {group}.{CHOSEN_BY[group]}={here}; "
            f"it belongs to {' and '.join(others[key])}"
        )
    same_leaf = [k for k in keys if k.split(".")[-1] == key.split(".")[-1]]
    hints = same_leaf or get_close_matches(key, [*keys, *groups, *others], n=1, cutoff=0.5)
    if _is_open(override, base):
        return f"{typed}; to add it, +{override.input_line}"
    return typed + (f"; did you mean {hints[0]}?" if hints else f"; there are {', '.join(groups)}")


def _keys_of_other_options(group: str) -> dict[str, list[str]]:
    """The keys of all of a group's options, and which options have them."""
    found: dict[str, list[str]] = {}
    for option, section in SECTIONS.get(group, {}).items():
        for name in section.model_fields:
            found.setdefault(f"{group}.{name}", []).append(option.rpartition(".")[2])
    return found


def _shape_of_pretrained(overrides: Sequence[Override], base: DictConfig) -> list[str]:
    """Mistakes for changes of the shape of pretrained weights, which would have no effect."""
    given = {o.key_or_group: o.value() for o in overrides if not o.is_sweep_override()}
    pretrained = given.get("model.pretrained", OmegaConf.select(base, "model.pretrained"))
    if not pretrained:
        return []
    return [
        f"{o.input_line}: the shape of pretrained weights is fixed; set model.pretrained=false "
        "for random weights of this shape"
        for o in overrides
        if o.key_or_group.startswith("model.config.") and o.key_or_group.split(".")[-1] in SHAPE
    ]


def _is_open(override: Override, base: DictConfig) -> bool:
    """Whether a key belongs to another library, or to a class of the user's package."""
    key = override.key_or_group
    if f"{key}.".startswith(("model.config.", "callbacks.")):
        return True
    group = key.partition(".")[0]
    if not override.is_add() or group not in (*CHOSEN_BY, "method") or group not in base:
        return False
    target = base[group].get("_target_")
    return target is not None and target not in SECTIONS["task"]


def _options_of(override: Override) -> list[Any]:
    """The options that an override of a group names; one may name several at once."""
    values: list[Any] = [override.value()]
    if override.is_sweep_override():
        one_by_one = not override.is_range_sweep() and not override.is_interval_sweep()
        values = list(override.sweep_iterator()) if one_by_one else []
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def _keys(cfg: Any, prefix: str = "") -> set[str]:
    """Dotted names of all keys, inner and outer."""
    found: set[str] = set()
    if isinstance(cfg, DictConfig) and not cfg._is_none() and not cfg._is_missing():
        for key in map(str, cfg):
            found.add(prefix + key)
            found |= _keys(cfg._get_node(key), f"{prefix}{key}.")
    return found
