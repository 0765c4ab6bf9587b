"""Validates a composed configuration: returns it typed, or reports all of its mistakes at once.

    cfg = validate(composed, TrainConfig)      raises ConfigError with every mistake

pydantic checks types, ranges, choices and unknown keys; ``cross_checks`` finds keys that conflict.
Each message names the key, says what is wrong and what to do, with the nearest name.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from icot.config.endpoint_options import mistakes_of_budget
from icot.config.filler_checks import mistakes_of_fillers
from icot.config.identity import value_at
from icot.config.options import CHOSEN_BY, OTHER, SECTIONS
from icot.config.predictor_options import ASKED, mistakes_of_votes
from icot.config.section import MISSING, TARGET, Section
from icot.config.teacher_options import mistakes_in_sampling
from icot.errors import ConfigError, first_line

SectionT = TypeVar("SectionT", bound=Section)
SOURCES = ("run_dir", "checkpoint", "predictions")  # what a command can work on
FILES = (*SOURCES, "data_file", "out")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
STRATEGIES = (
    *("auto", "ddp", "ddp_fork", "ddp_notebook", "fsdp"),
    *(
        f"{kind}_find_unused_parameters_{choice}"
        for kind in ("ddp", "ddp_fork", "ddp_notebook")
        for choice in ("true", "false")
    ),
)
# The shape of a model, which comes with pretrained weights.
SHAPE = {
    *("n_layer", "n_embd", "n_head", "n_inner", "vocab_size", "num_hidden_layers", "hidden_size"),
    *("intermediate_size", "num_attention_heads", "num_key_value_heads"),
}
OPEN_SHAPE = {"n_inner", "intermediate_size", "num_key_value_heads"}


def validate(composed: DictConfig | Mapping[str, Any], schema: type[SectionT]) -> SectionT:
    """The typed configuration.

    Raises:
        ConfigError: with all mistakes.
    """
    values, mistakes = _plain(composed)
    mistakes += _field_mistakes(values, schema)
    if mistakes:
        raise ConfigError(list(dict.fromkeys([*mistakes, *cross_checks(values)])))
    typed = schema.model_validate(values)
    if mistakes := cross_checks(typed.as_dict()):
        raise ConfigError(mistakes)
    return typed


def mistakes_of(composed: DictConfig | Mapping[str, Any], schema: type[Section]) -> list[str]:
    """All mistakes of a composed configuration."""
    try:
        validate(composed, schema)
    except ConfigError as error:
        return error.mistakes
    return []


def mistakes_of_choices(composed: DictConfig, schema: type[Section]) -> list[str]:
    """A mistake for each group that needs an option and has none."""
    return [
        f"{name} must be set: {choose('', SECTIONS[name])}"
        for name, field in schema.model_fields.items()
        if name in SECTIONS and field.is_required() and name not in composed
    ]


def wrong_values(kept: Mapping[str, Any], schema: type[Section]) -> list[str]:
    """The values of a run's kept configuration that the schema does not have.

    What only matters in training is not judged, so that a run of another version stays readable.
    """
    values, mistakes = _plain(kept)
    return mistakes + _field_mistakes(values, schema)


def _plain(composed: DictConfig | Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values as plain containers, and a mistake for each value that must be set."""
    mistakes = []
    if isinstance(composed, DictConfig):
        try:
            values: Any = OmegaConf.to_container(composed, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError([first_line(error)]) from None
    else:
        values = composed
    missing = [key for key, value in _all_values(values) if value == MISSING]
    mistakes += [f"{key} must be set: {key}=..." for key in sorted(missing)]
    return dict(values), mistakes


def _all_values(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _all_values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _field_mistakes(values: Mapping[str, Any], schema: type[Section]) -> list[str]:
    """The mistakes that pydantic finds, in icot's words."""
    try:
        schema.model_validate(values)
    except ValidationError as error:
        found = [(_dotted(e["loc"], values), e) for e in error.errors(include_url=False)]
        return [
            _message(key, e, value_at(values, key))
            for key, e in found
            if value_at(values, key) != MISSING
        ]
    return []


def _dotted(location: tuple[int | str, ...], values: Mapping[str, Any]) -> str:
    """The key of a mistake; pydantic's location also names the option it has chosen."""
    parts: list[str] = []
    for part in location:
        group = parts[0] if parts else ""
        if len(parts) == 1 and group in CHOSEN_BY:
            chosen = values.get(group)
            tag = chosen.get(CHOSEN_BY[group]) if isinstance(chosen, dict) else None
            if part in (tag, OTHER):
                continue
        if isinstance(part, int) or part in ("int", "str") or not part.isidentifier():
            break  # within a list, or one of several types that a value may have
        parts.append(str(part))
    return ".".join(parts)


def _message(key: str, error: Any, whole: Any) -> str:
    """One of pydantic's findings as a sentence that says what to do; ``whole`` is the key's value.

    Where a value of a list is wrong, the list is shown with it.
    """
    kind, given, limits = error["type"], error.get("input"), error.get("ctx", {})
    in_list = isinstance(whole, list) and given is not whole
    shown = f"{key}={_written(whole)}: {_written(given)}" if in_list else f"{key}={_written(given)}"
    if key.endswith(".base_url"):
        shown = key  # it may hold a password
    if key == "schedule.tokens_removed":
        return f"{shown} must be a number of tokens, at least 0, or all"
    if kind == "missing":
        return f"{key} must be set: {key}=..."
    if kind == "extra_forbidden":
        return _no_such_key(key)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        group = key.split(".")[0]
        chooser = CHOSEN_BY.get(group, "")
        if not isinstance(given, dict) or chooser not in given:
            return f"{key} must be a group of keys with {chooser}"
        return f"{key}.{chooser}={given[chooser]}: {choose(given[chooser], SECTIONS[group])}"
    if kind == "literal_error":
        allowed = [str(w).strip("'") for w in limits["expected"].replace(" or ", ", ").split(", ")]
        return f"{shown}: {choose(given, allowed)}"
    texts = {
        "greater_than_equal": "must be at least {ge:.12g}",
        "greater_than": "must be above {gt:.12g}",
        "less_than_equal": "must be at most {le:.12g}",
        "less_than": "must be below {lt:.12g}",
        "finite_number": "must be a finite number",
        "value_error": "{error}",
        "too_short": "must have at least {min_length} values",
        "too_long": "must have at most {max_length} values",
    }
    if kind in texts:
        return f"{shown} {texts[kind].format(**limits)}"
    types = {"int": "an integer", "float": "a number", "bool": "true or false", "string": "a text"}
    types |= {"list": "a list, [a,b]", "dict": "a group of keys", "model": "a group of keys"}
    wanted = next((text for name, text in types.items() if kind.startswith(f"{name}_")), None)
    if wanted is not None:
        return f"{shown} must be {wanted}"
    return f"{shown}: {error['msg']}"


def _written(value: Any) -> str:
    """A value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return str(value)


def mistakes_of_callbacks(callbacks: Any) -> list[str]:
    """The mistakes in the user's callbacks that show without importing anything heavy.

    Args:
        callbacks: each one's class and arguments, by name.
    """
    mistakes = []
    for name, settings in callbacks.items() if isinstance(callbacks, Mapping) else ():
        target = settings.get(TARGET) if isinstance(settings, Mapping) else None
        package = str(target).partition(".")[0]
        key = f"callbacks.{name}"
        if not isinstance(target, str):
            mistakes.append(f"{key} must be a group of keys with {TARGET}, the name of a class")
        elif not re.fullmatch(r"\w+(\.\w+)+", target):
            mistakes.append(f"{key}.{TARGET}={target} must be a class, as package.module.Class")
        elif package not in sys.modules and find_spec(package) is None:
            mistakes.append(f"{key}.{TARGET}={target}: there is no package {package}")
    return mistakes


def _no_such_key(key: str) -> str:
    """The message for a key that the schema does not have."""
    group, _, leaf = key.partition(".")
    if group in CHOSEN_BY:
        options = SECTIONS[group].items()
        have = [name.rpartition(".")[2] for name, option in options if leaf in option.model_fields]
        if have:
            return f"{key} has no effect with this {group}; it belongs to {' and '.join(have)}"
    return f"there is no {key}"


def choose(wrong: Any, allowed: Iterable[Any]) -> str:
    """The advice to choose one of the allowed values, with the nearest one first."""
    names = [str(name) for name in allowed]
    nearest = get_close_matches(str(wrong), names, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{hint}choose one of {', '.join(names)}"


def cross_checks(values: Mapping[str, Any]) -> list[str]:
    """The mistakes of keys that conflict; values of a wrong type are skipped."""

    def value(key: str) -> Any:
        return value_at(values, key)

    mistakes = [f"{key}= is empty; leave it out, or set it" for key in FILES if value(key) == ""]
    checks = (
        _of_what_is_evaluated,
        mistakes_in_sampling,
        _of_training_length,
        _of_the_trainer,
        _of_the_model,
        _of_batches,
        mistakes_of_fillers,
    )
    for check in checks:
        try:
            mistakes += check(value)
        except TypeError:  # a value of a wrong type, which pydantic reports
            continue
    return mistakes


def _of_what_is_evaluated(value: Callable[[str], Any]) -> list[str]:
    mistakes = []
    if value("what") == "validation" and value("run_dir") is None:
        mistakes.append("what=validation measures a run's weights: set run_dir=")
    if value("stage") is None or value("what") is not None:
        return mistakes
    if value("predictor.kind") in ASKED:
        return _of_what_is_asked(value)
    mistakes += [
        f"{key} is for predictor=endpoint or predictor=prompted: leave it out, or choose one"
        for key in ("task", "prompt", "dry_run")
        if value(key)
    ]
    scores = value("speed") is not None
    if all(value(source) is None for source in SOURCES):
        sources = " or ".join(f"{key}=" for key in SOURCES if scores or key != "predictions")
        mistakes.append(f"there is nothing to evaluate: set {sources}")
    if value("predictions") is not None and (value("run_dir") or value("checkpoint")):
        mistakes.append("predictions= is scored without a run: leave out run_dir and checkpoint")
    budget = value("budget")
    several = isinstance(budget, list)
    if scores and value("baselines") and value("stage") != "all" and not several:
        mistakes.append(
            "baselines are compared with all stages of a run, or with several budgets: set "
            "stage=all, or budget=[0,4,8]"
        )
    if several and (not budget or len(set(budget)) < len(budget)):
        mistakes.append("budget: give at least one number, and none twice")
    if budget is not None and value("stage") == "all":
        mistakes.append("budget is for one set of weights, not for stage=all")
    if budget is not None and value("tokens_removed") is not None:
        mistakes.append("budget and tokens_removed say the same thing: set one of them")
    if value("merge_lora") is not None and value("stage") == "all":
        mistakes.append("stage=all: export one stage at a time")
    return mistakes


def _of_what_is_asked(value: Callable[[str], Any]) -> list[str]:
    """The mistakes of a model that gets prompts."""
    kind = value("predictor.kind")
    mistakes = [
        f"predictor={kind} needs a {key}: set {key}={example}"
        for key, example in (("task", "mult4"), ("prompt", "explicit, no_cot or native"))
        if value(key) is None
    ]
    mistakes += [
        f"{key} has no effect with predictor={kind}, which asks the questions of a task: leave it "
        "out"
        for key in (*SOURCES, "tokens_removed", "budget", "also", "baselines")
        if value(key)
    ]
    if value("stage") != "final":
        mistakes.append(f"stage={value('stage')} is for a run: leave it out with predictor={kind}")
    mistakes += mistakes_of_votes(value)
    return mistakes + mistakes_of_budget(value, "predictor.budget", "predictor")


def _of_training_length(value: Callable[[str], Any]) -> list[str]:
    mistakes = []
    epochs, steps = value("trainer.max_epochs"), value("trainer.max_steps")
    if epochs is None:
        return []
    if epochs == -1 and steps == -1 and value("trainer.max_time") is None:
        mistakes.append("the run would never end: set trainer.max_epochs, max_steps or max_time")
    endless = steps == -1 and value("trainer.finish_steps") is None
    if value("optimizer.decay_steps") and endless:
        mistakes.append("optimizer.decay_steps needs trainer.max_steps to count back from")
    if value("schedule.finish_threshold") is not None and value("trainer.finish_steps") is None:
        mistakes.append(
            "schedule.finish_threshold says from where trainer.finish_steps count: set both, or "
            "neither"
        )
    warmup = value("schedule.warmup_epochs")
    if warmup is not None and 0 < epochs <= warmup:
        mistakes.append(
            f"schedule.warmup_epochs={warmup} leaves nothing of trainer.max_epochs={epochs}; "
            "schedule=explicit trains with the whole chain throughout"
        )
    return mistakes


def _of_the_trainer(value: Callable[[str], Any]) -> list[str]:
    mistakes = []
    for key, allowed in (
        ("trainer.accelerator", ACCELERATORS),
        ("trainer.strategy", STRATEGIES),
    ):
        chosen = value(key)
        if chosen is not None and chosen not in allowed:
            mistakes.append(f"{key}={chosen}: {choose(chosen, allowed)}")
    clip = value("trainer.gradient_clip_val")
    if clip is not None and clip < 0:  # it would turn the gradient around
        mistakes.append(f"trainer.gradient_clip_val={clip:g} must be at least 0")
    return mistakes


def _of_the_model(value: Callable[[str], Any]) -> list[str]:
    mistakes = []
    for key in sorted(SHAPE & set(value("model.config") or ())):
        size = value(f"model.config.{key}")
        if isinstance(size, list) or (size is None and key in OPEN_SHAPE):
            continue  # of some architectures: a size for each layer, or a default
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            mistakes.append(f"model.config.{key}={_written(size)} must be an integer, at least 1")
    if value("model.pretrained") is False and value("model.lora.r") is not None:
        mistakes.append("model.lora.r adapts pretrained weights: set model.pretrained=true")
    if value("model.pretrained") and value("model.tokenizer") == "symbol":
        mistakes.append("model.tokenizer=symbol is for random weights: set model.pretrained=false")
    if value("trainer.strategy") == "fsdp" and value("model.compile") is not None:
        mistakes.append(
            "model.compile does not work on sharded weights: leave it out with trainer=fsdp, or "
            "use trainer=ddp"
        )
    return mistakes


def _of_batches(value: Callable[[str], Any]) -> list[str]:
    if (
        value("schedule.keep_position_ids") == "from_separator"
        and value("schedule.side") == "right"
    ):
        return [
            "schedule.keep_position_ids=from_separator is for tokens that are removed from the "
            "left: set schedule.side=left"
        ]
    if value("data.packing") and value("schedule.chain_loss"):
        return [
            "schedule.chain_loss needs one example per row: set data.packing=false or "
            "schedule.chain_loss=0"
        ]
    if value("data.packing") and value("schedule.keep_position_ids"):
        return [
            "data.packing tells examples apart by position ids that count from 0: "
            "set schedule.keep_position_ids=false"
        ]
    return []
