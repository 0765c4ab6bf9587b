"""Every mistake of a configuration at once, each with the nearest valid name, before any work.

``check_values`` judges a composed configuration; ``mistakes_in`` a command line, whose keys may not
even exist.
"""

import math
from difflib import get_close_matches
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from icot.errors import first_line

SOURCES = ("run_dir", "checkpoint", "predictions")  # what an entry point can work on
INTERNAL_GROUPS = {"schema", "settings", "hydra"}
SWEEP = "sweep"  # the group that is added, not chosen: -m +sweep=NAME
CHOICES: dict[str, tuple[str, ...]] = {
    "task.chain": ("long", "tree"),
    "task.on_bad_line": ("raise", "skip"),
    "model.compile": ("default", "reduce-overhead", "max-autotune"),
    "model.dtype": ("float32", "bfloat16", "float16"),
    "schedule.kind": ("linear", "adaptive", "fixed"),
    "schedule.rounding": ("exact", "official"),
    "schedule.side": ("left", "right"),
    "optimizer.name": ("adamw", "muon"),
    "trainer.precision": ("auto", "32-true", "32", "bf16-mixed", "bf16-true"),
    "logger.name": ("csv", "wandb", "tensorboard"),
    "validation.decode": ("verify", "always"),
    "on_nonfinite": ("stop", "rollback"),
    "on_collapse": ("ignore", "warn", "rollback"),
    "split": ("all", "train", "valid", "test"),
    "decode": ("verify", "always"),
    "what": ("step", "memory", "validation", "data", "start", "decode", "scaling"),
    "on_bad_line": ("raise", "skip"),
    "accelerator": ("auto", "cpu", "gpu"),
    "precision": ("32-true", "bf16-mixed"),
}
AT_LEAST: dict[str, float] = {
    "task.digits": 2,
    "task.train_size": 1,
    "task.valid_size": 1,
    "task.test_size": 0,
    "task.held_out": 1,
    "schedule.warmup_epochs": 0,
    "schedule.warmup_removed": 0,
    "schedule.remove_all_beyond": 1,
    "schedule.patience": 1,
    "schedule.min_batches": 1,
    "schedule.tokens_per_stage": 1,
    "schedule.reset_warmup_steps": 0,
    "optimizer.weight_decay": 0,
    "trainer.finish_steps": 1,
    "optimizer.warmup_steps": 0,
    "optimizer.decay_steps": 0,
    "data.batch_size": 1,
    "data.max_train_tokens": 1,
    "data.num_workers": 0,
    "validation.batch_size": 1,
    "validation.examples": 1,
    "validation.shown": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.num_nodes": 1,
    "checkpoints.every_steps": 1,
    "checkpoints.keep": 2,
    "collapse.validations": 1,
    "max_rollbacks": 0,
    "size": 1,
    "tokens_removed": 0,
    "examples": 1,
    "batch_size": 1,
    "repeats": 1,
    "seconds": 0,
    "speed.examples": 0,
    "speed.seconds": 0,
    "model.lora.r": 1,
}
ABOVE_ZERO = (
    "schedule.tokens_per_epoch",
    "schedule.smoothing_lambda",
    "optimizer.lr",
    "optimizer.adamw_lr",
    "optimizer.eps",
    "checkpoints.every_minutes",
    "collapse.share",
    "model.lora.alpha",
)


def check_values(cfg: DictConfig) -> list[str]:
    """Every value of a composed configuration that is out of its range or fits no other."""

    def value(key: str) -> Any:
        return OmegaConf.select(cfg, key)

    mistakes = []
    for key in sorted(k for k in _keys(cfg) if _is_missing(cfg, k)):
        mistakes.append(f"{key} must be set: {key}=...")
    for key, allowed in CHOICES.items():
        found = value(key)
        if found is not None and found not in allowed:
            mistakes.append(f"{key}={found}: {_choose(str(found), allowed)}")
    for key, least in AT_LEAST.items():
        found = value(key)
        if found is not None and not (_is_number(found) and found >= least):
            mistakes.append(f"{key}={found} must be at least {least:g}")
    for key in ABOVE_ZERO:
        found = value(key)
        if found is not None and not (_is_number(found) and found > 0):
            mistakes.append(f"{key}={found} must be above 0")
    try:
        mistakes += _across_fields(value)
    except TypeError as error:  # an interpolation has brought it
        mistakes.append(f"a value is of another kind than its key wants: {error}")
    return mistakes


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float)


def _across_fields(value: Any) -> list[str]:
    kept_run = value("stage") is not None and value("what") is None
    mistakes = _of_what_is_evaluated(value) if kept_run else []
    if value("what") == "validation" and value("run_dir") is None:
        mistakes.append("what=validation measures a run's weights: set run_dir=")
    if value("schedule") is not None:
        removed = value("schedule.tokens_removed")
        if removed != "all" and not (isinstance(removed, int) and removed >= 0):
            mistakes.append(
                f"schedule.tokens_removed={removed} must be a number of tokens, at least 0, or all"
            )
        stops = list(value("schedule.stops"))
        if stops != sorted(set(stops)) or any(stop < 1 for stop in stops):
            mistakes.append(f"schedule.stops={stops} must rise from at least 1")
        threshold = value("schedule.threshold")
        if not 0 < threshold <= 1:
            mistakes.append(f"schedule.threshold={threshold} must be above 0 and at most 1")
        decay = value("schedule.decay")
        if not 0 <= decay < 1:
            mistakes.append(f"schedule.decay={decay} must be at least 0 and below 1")
        if not math.isfinite(value("schedule.tokens_per_epoch")):
            mistakes.append("schedule.tokens_per_epoch must be finite; schedule=no_cot removes all")
        if value("data.packing") and value("schedule.keep_position_ids"):
            mistakes.append(
                "data.packing tells examples apart by position ids that count from 0: "
                "set schedule.keep_position_ids=false"
            )
    if value("trainer") is not None:
        epochs, steps = value("trainer.max_epochs"), value("trainer.max_steps")
        if epochs == 0 or steps == 0 or epochs < -1 or steps < -1:
            mistakes.append("trainer.max_epochs and max_steps must be above 0, or -1 for no limit")
        elif epochs == -1 and steps == -1 and value("trainer.max_time") is None:
            mistakes.append(
                "the run would never end: set trainer.max_epochs, max_steps or max_time"
            )
        if value("trainer.strategy") == "fsdp" and value("model.compile") is not None:
            mistakes.append(
                "model.compile compiles a model that one device holds: leave it out with "
                "trainer=fsdp, or take trainer=ddp"
            )
        endless = steps == -1 and value("trainer.finish_steps") is None
        if value("optimizer.decay_steps") and endless:
            mistakes.append("optimizer.decay_steps needs trainer.max_steps to count back from")
        warmup = value("schedule.warmup_epochs")
        if value("schedule.kind") == "linear" and 0 < epochs <= warmup:
            mistakes.append(
                f"schedule.warmup_epochs={warmup} leaves nothing of trainer.max_epochs={epochs}; "
                "schedule=explicit trains with the whole chain throughout"
            )
    if value("model.pretrained") is False and value("model.lora.r") is not None:
        mistakes.append("model.lora.r adapts pretrained weights: set model.pretrained=true")
    tokenizer = value("model.tokenizer")
    if value("model.pretrained") and tokenizer == "symbol":
        mistakes.append("model.tokenizer=symbol fits random weights: set model.pretrained=false")
    return mistakes


def _of_what_is_evaluated(value: Any) -> list[str]:
    mistakes = []
    if value("run_dir") is None and value("checkpoint") is None and value("predictions") is None:
        scores = value("speed") is not None
        sources = " or ".join(f"{key}=" for key in SOURCES if scores or key != "predictions")
        mistakes.append(f"nothing to work on: set {sources}")
    if value("predictions") is not None and (value("run_dir") or value("checkpoint")):
        mistakes.append("predictions is scored by itself: leave out run_dir and checkpoint")
    if value("baselines") and value("stage") != "all":
        mistakes.append("baselines stand beside a run's stages: set stage=all")
    if value("merge_lora") is not None and value("stage") == "all":
        mistakes.append("stage=all: export one stage at a time")
    if value("split") == "all":
        mistakes.append("split=all: choose one of train, valid, test")
    return mistakes


def mistakes_in(overrides: list[str], config_name: str, multirun: bool = False) -> list[str]:
    """Every mistake in a command line's overrides; Hydra must be initialised.

    Unknown groups, options and keys are named with the nearest valid name, also behind ``+``.
    """
    parser = OverridesParser.create()
    mistakes: list[str] = []
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            mistakes.append(f"{text}: {first_line(error)}")
    loader = GlobalHydra.instance().config_loader()
    groups = [g for g in loader.list_groups("") if g not in INTERNAL_GROUPS]
    chosen: list[str] = []
    values: list[Override] = []
    bad: set[int] = set()
    for override in parsed:
        key = override.key_or_group
        if key.split(".")[0].split("/")[0] == "hydra" or override.is_delete():
            continue
        if key in groups:
            options = _options_of(loader, key)
            if key == SWEEP and not (multirun and override.is_add()):
                mistakes.append(f"{override.input_line}: a sweep is many runs: -m +{key}=NAME")
                bad.add(id(override))
                continue
            for option in _options(override):
                if option in options or _is_in_folder(loader, key, option):
                    chosen.append(f"{'+' * (key == SWEEP)}{key}={option}")
                else:
                    mistakes.append(f"{key}={option}: {_choose(str(option), options)}")
                    bad.add(id(override))
        else:
            values.append(override)
    try:
        base = _compose(config_name, list({c.split("=")[0]: c for c in chosen}.values()))
    except (HydraException, OmegaConfBaseException) as error:
        return [*mistakes, first_line(error)]
    known = sorted(_keys(base))
    varied = _varied_by_sweep(config_name, chosen, {o.key_or_group for o in parsed})
    for override in [*values, *(o for o in varied if o.key_or_group not in groups)]:
        found = _mistakes_in_value(override, base, known, groups)
        mistakes += found
        if found:
            bad.add(id(override))
    good = [override for override in [*parsed, *varied] if id(override) not in bad]
    if any(o.key_or_group == "resume" and o.value() not in (None, "auto") for o in good):
        return mistakes  # the values belong to another configuration, that of the run
    return list(dict.fromkeys([*mistakes, *_mistakes_in_values(good, config_name)]))


def _varied_by_sweep(config_name: str, chosen: list[str], given: set[str]) -> list[Override]:
    """What a named sweep varies beside what the command line gives."""
    from hydra import compose

    if not any(text.startswith(f"+{SWEEP}=") for text in chosen):
        return []
    cfg = compose(config_name, [c for c in chosen if SWEEP in c], return_hydra_config=True)
    params = cfg.hydra.sweeper.get("params") or {}
    texts = [f"{key}={value}" for key, value in params.items() if key not in given]
    return OverridesParser.create().parse_overrides(texts)


def _mistakes_in_values(overrides: list[Override], config_name: str) -> list[str]:
    """What ``check_values`` says of the jobs that the overrides make, each swept value once."""
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
            mistakes += check_values(_compose(config_name, job))
        except (HydraException, OmegaConfBaseException) as error:
            mistakes.append(first_line(error))
    return mistakes


def _mistakes_in_value(
    override: Override, base: DictConfig, known: list[str], groups: list[str]
) -> list[str]:
    key = override.key_or_group
    if not _is_open(key) and key not in known:
        nearest = get_close_matches(key, [*known, *groups], n=1, cutoff=0.5)
        leaf = key.split(".")[-1]
        same_leaf = [k for k in known if k.split(".")[-1] == leaf]
        hints = same_leaf or nearest
        advice = f"; did you mean {hints[0]}?" if hints else f"; there are {', '.join(groups)}"
        return [f"{override.input_line}: there is no {key}{advice}"]
    mistakes = []
    for value in _values(override):
        trial = base.copy()
        try:
            OmegaConf.update(trial, key, value, force_add=_is_open(key))
            OmegaConf.select(trial, key)
        except OmegaConfBaseException as error:
            mistakes.append(f"{key}={value}: {first_line(error)}")
    return mistakes


def _is_open(key: str) -> bool:
    """Keys whose content belongs to another library or to the user."""
    return f"{key}.".startswith(("model.config.", "callbacks."))


def _values(override: Override) -> list[Any]:
    """The single values of an override, one for each job of a sweep over choices."""
    if override.is_sweep_override():
        return list(override.sweep_iterator()) if override.is_choice_sweep() else []
    return [override.value()]


def _options_of(loader: Any, group: str) -> list[str]:
    """The options of a group, without its folders."""
    inner = loader.list_groups(group)  # reads the directory anew
    return [o for o in loader.get_group_options(group) if o not in inner]


def _is_in_folder(loader: Any, group: str, option: Any) -> bool:
    """Whether an option is named with its folder: experiment=PAPER/NAME."""
    folder, _, name = str(option).rpartition("/")
    return (
        bool(folder)
        and folder in loader.list_groups(group)
        and (name in _options_of(loader, f"{group}/{folder}"))
    )


def _options(override: Override) -> list[Any]:
    """The options that an override of a group names; one may name several at once."""
    values = _values(override)
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def _compose(config_name: str, overrides: list[str]) -> DictConfig:
    from hydra import compose

    return compose(config_name=config_name, overrides=overrides)


def _keys(cfg: Any, prefix: str = "") -> set[str]:
    """Dotted names of all keys, inner and outer."""
    found: set[str] = set()
    if isinstance(cfg, DictConfig) and not cfg._is_none() and not cfg._is_missing():
        for key in map(str, cfg):
            found.add(prefix + key)
            found |= _keys(cfg._get_node(key), f"{prefix}{key}.")
    return found


def _is_missing(cfg: DictConfig, key: str) -> bool:
    parent, _, leaf = key.rpartition(".")
    return OmegaConf.is_missing(OmegaConf.select(cfg, parent) if parent else cfg, leaf)


def _choose(wrong: str, allowed: Any) -> str:
    nearest = get_close_matches(wrong, list(allowed), n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{hint}choose one of {', '.join(allowed)}"
