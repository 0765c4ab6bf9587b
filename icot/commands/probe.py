"""``python -m icot.probe``: where each chain token can be read in a run's hidden states.

    python -m icot.probe run_dir=outputs/RUN stage=all baselines=[outputs/NO_COT,outputs/EXPLICIT]

Writes probe.csv, probe.json and pictures. Composes the parts of ``icot.probing``; docs/probe.md
says how to read what they find.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from icot.commands.build_method import build_method, model_maker
from icot.commands.quiet import quiet_libraries
from icot.commands.sources import split_of_run
from icot.config.command_line import CommandLine
from icot.config.entry_points import ProbeConfig
from icot.errors import ConfigError, DataError, ModelError
from icot.evaluation.loading import Source, Subject, choose_examples, load_weights
from icot.models.hidden_states import blocks_of
from icot.models.introspection import device_of
from icot.probing import pictures
from icot.probing.attention import attend
from icot.probing.linear import encode
from icot.probing.places import NOWHERE, choose_places, names_of
from icot.probing.questions import HeldOut, Targets, find_targets, question_tokens
from icot.probing.reading import LEAST, Reading, probe, read_from_tokens, summarize
from icot.probing.record import Record
from icot.probing.replacing import Following, replace_states
from icot.probing.states import States, collect
from icot.reporting.tables import print_probes
from icot.runs.checkpoints import BEST, FINAL, Checkpoint, select_stage
from icot.runs.evaluations import slug
from icot.runs.kept_run import KeptRun
from icot.runs.layout import PROBES
from icot.runs.names import name_folders
from icot.system.hardware import precision_context
from icot.system.output import lock_output

TITLES = {"tokens": "tokens of the chain", "quantities": "quantities"}
# Settings that change no number.
ELSEWHERE = ("out", "paths", "trust", "accelerator", "batch_size")


def run(cfg: ProbeConfig, command: CommandLine) -> None:
    """Probe, write the files, print the table."""
    probe_run(cfg)


def probe_run(cfg: ProbeConfig) -> dict[str, Any]:
    """The same; returns what ``probe.json`` says."""
    quiet_libraries()
    choose_places([], cfg.positions)  # says what is wrong before anything is loaded
    if few := _too_few(cfg, cfg.examples):
        raise ConfigError([f"examples={cfg.examples}: {few}; set more, or another test_share"])
    run = KeptRun(cfg.run_dir, cfg.trust)
    models = [(slug(found.name), run, found) for found in select_stage(run, cfg.stage)]
    for name, folder in zip(_name_baselines(cfg.baselines), cfg.baselines, strict=True):
        baseline = KeptRun(folder, cfg.trust)
        models += [(name, baseline, found) for found in select_stage(baseline, FINAL)]
    out = run.folder / PROBES / slug(cfg.stage) if cfg.out is None else Path(cfg.out)
    console = Console(highlight=False, soft_wrap=True)
    task = split_of_run(run, "valid").task
    held_out = HeldOut(task)
    source = Source(task, held_out, "valid", f"task {held_out.name}")
    with lock_output(out):
        record = Record(out, {k: v for k, v in cfg.as_dict().items() if k not in ELSEWHERE})
        for name, of_run, checkpoint in models:
            if of_run is not run and not record.has(name, checkpoint.path):
                _load(cfg, of_run, checkpoint, source)  # refused now, not after hours of probing
        for name, of_run, checkpoint in models:
            if record.has(name, checkpoint.path):
                console.print(f"{name}: is there already.")
                continue
            subject = _load(cfg, of_run, checkpoint, source)
            if not choose_places(names_of(subject.examples), cfg.positions):
                console.print(f"{name}: {subject.title}; it has none of these positions.")
                continue
            about, rows = _probe_model(cfg, subject, name, out, console)
            record.add(about, rows, len(models))
        if not record.models:
            raise ConfigError(["positions: no sequence of these stages has any of these"])
        _draw_stages(record.models, out, task.name)
        record.finish()
    print_probes(console, record.models)
    written = ", ".join(sorted(path.name for path in out.iterdir() if path.is_file()))
    console.print(f"Written into {out}: {written}")
    return record.content


def _name_baselines(folders: Sequence[str]) -> list[str]:
    """Names of their files; none is a stage's."""
    return name_folders(folders, slug, lambda name: name.isdecimal() or name in (FINAL, BEST))


def _load(cfg: ProbeConfig, run: KeptRun, checkpoint: Checkpoint, source: Source) -> Subject:
    """A model, and the questions to probe it on in random order.

    Raises:
        UserError: the run has no causal LM or not these layers, or was trained on other questions,
            or there are too few.
    """
    method, options = build_method(run.cfg.method)
    _check_questions(run, source, cfg.run_dir)
    make = model_maker(method, options)
    weights = load_weights(run, checkpoint, source.task, cfg.accelerator, make)
    if not isinstance(weights.model, PreTrainedModel) and not hasattr(
        weights.model, "get_base_model"
    ):
        raise ModelError(
            f"{run.folder}: what method {method.name} trains is not one causal LM, and icot.probe "
            "reads nothing else. Probe its teacher, or a run of another method."
        )
    subject = choose_examples(
        weights, source, tokens_removed=None, limit=None, cache_dir=Path(cfg.paths.cache_dir)
    )
    n = len(subject.examples)
    order = np.random.default_rng(cfg.seed).permutation(n)[: cfg.examples]
    if few := _too_few(cfg, len(order)):
        raise DataError(f"{source.name} has {n} questions; {few}.")
    tested = _tested(cfg, len(order))
    if cfg.attention is not None and cfg.attention > tested:
        raise ConfigError([f"attention={cfg.attention}: there are {tested} tested questions"])
    _layers(cfg, weights.model)
    return replace(subject, examples=subject.examples.part(order))


def _tested(cfg: ProbeConfig, n: int) -> int:
    return round(cfg.test_share * n)


def _too_few(cfg: ProbeConfig, n: int) -> str:
    """Why n questions are too few; "" if they are not."""
    tested = _tested(cfg, n)
    if tested >= 2 * LEAST and n - tested >= LEAST:
        return ""
    return (
        f"test_share={cfg.test_share} leaves {n - tested} of them to learn from and {tested} to "
        f"test on; probes need at least {LEAST} and {2 * LEAST}"
    )


def _check_questions(run: KeptRun, source: Source, probed: str) -> None:
    own = HeldOut(split_of_run(run, "valid").task)
    if own.fingerprint("valid") == source.texts.fingerprint("valid"):
        return
    own_ones, wanted = (list(chain.from_iterable(t.chunks("valid"))) for t in (own, source.texts))
    if own_ones != wanted:
        raise DataError(
            f"{run.folder} has other held-out questions than {probed}, so their states cannot be "
            "compared. Choose a baseline of the same task, sizes and seed."
        )


def _probe_model(
    cfg: ProbeConfig, subject: Subject, name: str, out: Path, console: Console
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Probe one model and draw its pictures; its record, and its rows of probe.csv."""
    examples, model = subject.examples, subject.weights.model
    learned = len(examples) - _tested(cfg, len(examples))
    layers = _layers(cfg, model)
    names = choose_places(names_of(examples), cfg.positions)
    targets = _targets(cfg, subject).varying(learned)
    if not targets.names:
        raise DataError("there is nothing to read: no token of the chain differs, and no quantity.")
    console.print(
        f"{name}: {subject.title}; {learned:,} questions to learn from, "
        f"{len(examples) - learned:,} to test, {len(layers)} layers, {len(names)} positions, "
        f"{len(targets.names)} things to read ..."
    )
    passes = precision_context(device_of(model), cfg.precision)  # of the model, not of the probes
    with passes:
        states = collect(model, examples, layers, names, cfg.batch_size, out)
    reading = probe(
        states,
        targets,
        learned,
        order=names_of(examples),
        most_classes=cfg.most_classes,
        ridge=cfg.ridge,
        seed=cfg.seed,
        device=device_of(model),
    )
    title = f"{subject.source.task.name}, {subject.title}"
    labels = _labels(states, subject.weights.tokenizer)
    for kind, part in _parts(reading, targets).items():
        pictures.best_places(part, labels, out / f"{name}-{kind}.png", title)
    with passes:
        following = _replace(cfg, subject, states, reading, learned)
        if cfg.attention is not None:
            _draw_attention(subject, learned + cfg.attention - 1, out / f"{name}-attention.png")
    if following:
        pictures.following(following, out / f"{name}-replaced.png", title)
    return _describe(cfg, subject, name, reading, targets, following, learned)


def _layers(cfg: ProbeConfig, model: nn.Module) -> list[int]:
    depth = len(blocks_of(model))
    if cfg.layers is None:
        return list(range(depth + 1))
    if wrong := [layer for layer in cfg.layers if layer > depth]:
        raise ConfigError([f"layers: {wrong[0]}: the model has {depth} blocks, so 0 to {depth}"])
    return sorted(set(cfg.layers))


def _targets(cfg: ProbeConfig, subject: Subject) -> Targets:
    examples, source = subject.examples, subject.source
    texts = list(source.stored(subject.weights.tokenizer))
    of_task = [
        source.task.quantities(texts[row]) if cfg.quantities else {} for row in examples.rows
    ]
    return find_targets(examples.store, examples.rows, of_task, cfg.tokens)


def _parts(reading: Reading, targets: Targets) -> dict[str, Reading]:
    """The tokens of the chain and the quantities apart, those that there are."""
    kinds = {
        "tokens": range(targets.tokens),
        "quantities": range(targets.tokens, len(targets.names)),
    }
    return {kind: reading.only(list(things)) for kind, things in kinds.items() if things}


def _labels(states: States, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The places' names, with the token that stands there if it is always the same."""
    labels = []
    for name, tokens in zip(states.names, states.tokens, strict=True):
        found = np.unique(tokens[tokens != NOWHERE])
        same = f" {tokenizer.convert_ids_to_tokens(int(found[0]))}" if len(found) == 1 else ""
        labels.append(name + same)
    return labels


def _replace(
    cfg: ProbeConfig, subject: Subject, states: States, reading: Reading, learned: int
) -> list[Following]:
    """The causal check, at each place that is the best one for something."""
    if cfg.causal == 0:
        return []
    model, examples = subject.weights.model, subject.examples
    inside = range(len(blocks_of(model)))  # behind the last block nothing else reads a state
    best = {reading.best(k, inside) for k in range(len(reading.targets))}
    places = sorted(place for place in best if place is not None)
    written = [name for name in names_of(examples) if name[0] in "zy"]
    index = np.arange(learned, len(examples))[-cfg.causal :]
    return replace_states(model, examples, states, index, places, written, cfg.batch_size)


def _draw_attention(subject: Subject, index: int, path: Path) -> None:
    found = attend(subject.weights.model, subject.examples, index)
    labels = subject.weights.tokenizer.convert_ids_to_tokens(found.tokens)
    pictures.attention(found, labels, path, f"{subject.title}: attention, from row to column")


def _describe(
    cfg: ProbeConfig,
    subject: Subject,
    name: str,
    reading: Reading,
    targets: Targets,
    following: Sequence[Following],
    learned: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    examples = subject.examples
    removed = examples.tokens_removed
    bounds = range(1, removed + 1)
    if examples.side == "right":
        longest = examples.store.longest_cot
        bounds = range(longest - removed + 1, longest + 1)
    plain = read_from_tokens(
        question_tokens(examples.store, examples.rows),
        encode(targets.values, learned, cfg.most_classes),
        learned,
        cfg.ridge,
    )
    best = []
    for k, target in enumerate(targets.names):
        is_token = k < targets.tokens
        kind = "quantity"
        if is_token:
            kind = "removed token" if int(target[1:]) in bounds else "written token"
        best.append(
            {"kind": kind, **reading.describe(k), "from_question": round(float(plain[k]), 6)}
        )
    about = {"model": name, "stage": subject.checkpoint.stage, "tokens_removed": removed}
    kinds = {one["target"]: one["kind"] for one in best}
    rows = [{**row, "kind": kinds[row["target"]]} for row in reading.rows(about)]
    return {
        **about,
        "title": subject.title,
        "run_dir": str(subject.run.folder),
        "checkpoint": str(subject.checkpoint.path),
        "learned": learned,
        "tested": len(examples) - learned,
        "layers": reading.layers,
        "positions": reading.names,
        "summary": summarize(best),
        "best": best,
        "causal": [one.as_dict() for one in following],
    }, rows


def _draw_stages(models: Sequence[dict[str, Any]], out: Path, task: str) -> None:
    kinds = {
        "tokens": [b["target"] for b in models[0]["best"] if b["kind"] != "quantity"],
        "quantities": [b["target"] for b in models[0]["best"] if b["kind"] == "quantity"],
    }
    for kind, names in kinds.items():
        if names:
            pictures.stages(models, names, out / f"stages-{kind}.png", f"{task}: {TITLES[kind]}")
