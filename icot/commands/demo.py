"""``python -m icot.demo``: a page on this machine, to ask models and see what each stage writes.

python -m icot.demo run_dir=outputs/RUN                      every stage whose weights are kept
python -m icot.demo run_dir=[outputs/RUN,outputs/NO_COT]     several runs side by side
python -m icot.demo run_dir=my-model                         a folder of icot.export
"""

import json
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.commands.build import build_task
from icot.commands.build_method import build_method, model_maker
from icot.commands.quiet import quiet_libraries
from icot.commands.sources import split_of_run
from icot.config.command_line import CommandLine
from icot.config.entry_points import DemoConfig
from icot.config.kept import read_task
from icot.config.options import FixedScheduleConfig
from icot.data.fillers import NO_FILLER, Filler, filler_id
from icot.data.leading_tokens import decide_bos
from icot.data.staged import StagedExamples
from icot.data.tokenized import separator_id, tokenize_split
from icot.demonstration.questions import questions_for
from icot.demonstration.service import Service
from icot.demonstration.writers import Accuracy, Ready, Shelf, Writer
from icot.errors import DataError, RunError, UserError
from icot.evaluation.loading import Source, Weights, choose_examples, load_weights
from icot.inference.predictor import GreedyPredictor
from icot.methods.base import Method, Options, PredictorParts
from icot.models.export import load_standalone
from icot.models.tokenizers import load_tokenizer
from icot.removal import KeepIds
from icot.reporting.finding import read_run
from icot.reporting.runs import Run
from icot.runs.checkpoints import ALL, FINAL, is_fully_internalized, select_stage
from icot.runs.kept_run import KeptRun
from icot.runs.layout import EXPORTED
from icot.runs.names import name_folders

NUMBERS = ("accuracy", "accuracy_low", "accuracy_high")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(cfg: DemoConfig, command: CommandLine) -> None:
    """Read the runs, serve the page, and wait for a signal."""
    page, address = open_page(cfg)
    who = "this machine alone" if cfg.host in LOOPBACK else "every machine that reaches this one"
    print(f"Demo: {address} (for {who}; Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def open_page(cfg: DemoConfig) -> tuple[Any, str]:
    """The page, being served by threads of its own, and its address.

    Raises:
        UserError: a package is missing, a run cannot be read, or the port is taken.
    """
    quiet_libraries()
    try:
        from icot.demonstration.page import build_page
        from icot.demonstration.server import start
    except ImportError as error:
        raise UserError(f"the demo needs a package: pip install 'icot[demo]' ({error}).") from None
    page = build_page(make_service(cfg), cfg.waiting)
    return page, start(page, cfg.host, cfg.port)


def make_service(cfg: DemoConfig) -> Service:
    """What the page's buttons do, for the runs and exported folders of the configuration.

    Raises:
        UserError: something cannot be read.
    """
    runs = []
    for folder, name in zip(cfg.run_dirs, name_folders(cfg.run_dirs), strict=True):
        if (Path(folder) / EXPORTED).is_file():
            runs.append(_writers_of_export(Path(folder), name, cfg))
        else:
            runs.append(_writers_of_run(KeptRun(folder, cfg.trust), name, cfg))
    questions = questions_for([writer.task for writers in runs for writer in writers])
    return Service(runs, questions, Shelf(cfg.keep_loaded), cfg.tally)


def _writers_of_run(kept: KeptRun, name: str, cfg: DemoConfig) -> list[Writer]:
    """A writer for each stage whose weights are kept, or each budget of a dial."""
    source = split_of_run(kept, cfg.split)
    tokenizer = load_tokenizer(str(kept.model_folder), source.task)
    common = _questions(name, source, decide_bos(tokenizer, kept.cfg.model.add_bos), cfg)
    longest, schedule = common["longest"], kept.cfg.schedule
    method, options = build_method(kept.cfg.method)
    make = model_maker(method, options)
    measured = _measured(read_run(kept.folder)[0])
    told = schedule.jumping_ids == "from_separator" or schedule.filler == "one_for_one"
    is_dial = schedule.dial_share > 0 and told
    writers = []
    for checkpoint in select_stage(kept, FINAL if is_dial else ALL):
        removed = checkpoint.tokens_removed or 0
        least = 0 if is_fully_internalized(kept, checkpoint) else max(0, longest - removed)
        load = partial(load_weights, kept, checkpoint, source.task, cfg.accelerator, make)
        for left in range(longest, least - 1, -1) if is_dial else (least,):
            title = f"budget {left}" if is_dial else f"stage {checkpoint.stage}"
            if isinstance(schedule, FixedScheduleConfig):
                is_baseline = method.is_removal and left in (0, longest)
                title = ("explicit CoT" if left else "No CoT") if is_baseline else method.name
            budget = left if is_dial else None
            writers.append(
                Writer(
                    title=title,
                    left=left,
                    accuracy=measured.get((checkpoint.stage, longest - left)),
                    weights=str(checkpoint.path.resolve()),
                    load=load,
                    prepare=partial(_prepare, source, method, options, cfg, budget),
                    **common,
                )
            )
    return writers


def _questions(
    name: str, source: Source, tokenizer: PreTrainedTokenizerBase, cfg: DemoConfig
) -> dict[str, Any]:
    """What the writers of a run have in common: its name, the questions, the longest chain."""
    store = tokenize_split(source.texts, cfg.split, tokenizer, Path(cfg.paths.cache_dir))
    held_out = {example.question: example for example in source.stored(tokenizer)}
    if not held_out:
        raise DataError(f"{source.name} has no example in its {cfg.split} split.")
    return {
        "run": name,
        "longest": store.longest_cot,
        "task": source.task,
        "held_out": held_out,
    }


def _prepare(
    source: Source,
    method: Method,
    options: Options,
    cfg: DemoConfig,
    budget: int | None,
    weights: Weights,
) -> Ready:
    """The predictor and the examples that ``icot.evaluate`` would use."""
    subject = choose_examples(
        weights,
        source,
        tokens_removed=None,
        budget=budget,
        limit=None,
        cache_dir=Path(cfg.paths.cache_dir),
    )
    predictor = method.build_predictor(PredictorParts(weights.model, cfg.trust), options)
    return Ready(predictor, subject.examples, weights.tokenizer, source.task)


def _measured(run: Run) -> dict[tuple[int | None, int], Accuracy]:
    """Exact match on the run's own held-out questions, by stage and tokens removed.

    What ``icot.evaluate`` measured last counts, before what training measured.
    """
    rows: list[dict[str, Any]] = [
        {key.removeprefix("val_"): value for key, value in row.items()} for row in run.stages
    ]
    if run.stages:
        rows.append({"stage": run.stages[-1]["stage"], **run.summary})
    for one in run.evaluations:
        if str(one.record.get("data", "")).startswith("task "):
            rows += one.record.get("stages", [one.record])
    names = ("stage", "tokens_removed", *NUMBERS)
    found: dict[tuple[int | None, int], Accuracy] = {}
    for row in rows:
        if all(isinstance(row.get(name), int | float) for name in names):
            place = int(row["stage"]), int(row["tokens_removed"])
            found[place] = Accuracy(*(row[name] for name in NUMBERS))
    return found


def _writers_of_export(folder: Path, name: str, cfg: DemoConfig) -> list[Writer]:
    """A writer for the exported model, or for each budget that it can be told."""
    path = folder / EXPORTED
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        task = build_task(read_task(facts["task"], cfg.trust, path))
        told, stages = bool(facts["told_by_position"]), facts["stages"]
        measured = {s["tokens_removed"]: Accuracy(*(s[name] for name in NUMBERS)) for s in stages}
        side, loading = facts["side"], dict(facts["loading"])
        count = facts.get("filler_count", 0)
        internalized = bool(facts["fully_internalized"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise RunError(f"{path}: cannot be read; export the model again.") from None
    tokenizer = decide_bos(load_tokenizer(str(folder), task), None)
    common = _questions(name, Source.own(task, cfg.split), tokenizer, cfg)
    store = tokenize_split(task, cfg.split, tokenizer, Path(cfg.paths.cache_dir))
    longest = store.longest_cot
    filler = NO_FILLER if count == 0 else Filler(filler_id(tokenizer), count)

    def prepare(removed: int, model: nn.Module) -> Ready:
        keep: KeepIds = "from_separator" if told else False
        rows, eos = np.arange(len(store)), separator_id(tokenizer)
        examples = StagedExamples(store, rows, removed, eos, side, keep, filler=filler)
        return Ready(GreedyPredictor(model), examples, tokenizer, task)

    writers = []
    for removed in range(longest + 1) if told else measured:
        left = 0 if internalized else max(0, longest - removed)
        writers.append(
            Writer(
                title=f"budget {left}" if told else "exported",
                left=left,
                accuracy=measured.get(removed),
                weights=str(folder.resolve()),
                load=partial(load_standalone, folder, loading, cfg.accelerator),
                prepare=partial(prepare, longest - left),
                **common,
            )
        )
    return writers
