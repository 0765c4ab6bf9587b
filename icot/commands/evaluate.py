"""``python -m icot.evaluate``: how good and how fast a run's stages are, and where they fail.

    python -m icot.evaluate run_dir=outputs/RUN                        the final weights
    python -m icot.evaluate run_dir=outputs/RUN stage=all split=test   and the trade-off curve
    python -m icot.evaluate run_dir=outputs/RUN budget=[0,6,12]        and that of one set
    python -m icot.evaluate run_dir=outputs/RUN stage=all also=[mult4] on other examples, too
    python -m icot.evaluate run_dir=outputs/RUN predictor=vote         a majority of samples
    python -m icot.evaluate checkpoint=FILE data_file=FILE
    python -m icot.evaluate predictions=FILE                           what another program wrote
    python -m icot.evaluate predictor=endpoint ... task=mult4          a model that gets prompts

Composes the parts; ``icot.evaluation`` measures.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Console

from icot.commands.build_method import build_method, model_maker
from icot.commands.evaluate_prompted import score_prompted
from icot.commands.quiet import quiet_libraries
from icot.commands.sources import further_sources, own_source
from icot.config.command_line import CommandLine
from icot.config.entry_points import EvaluateConfig
from icot.config.predictor_options import ASKED, VotePredictorConfig
from icot.errors import ConfigError, PausedError
from icot.evaluation.failures import POSITION, answer_positions
from icot.evaluation.loading import Source, Weights, choose_examples, load_weights
from icot.evaluation.measurement import Measured, as_rows, judge, measure, share
from icot.evaluation.predictions import read_predictions, write_predictions
from icot.evaluation.tradeoff import tradeoff_rows, write_tradeoff
from icot.inference.predictor import GreedyPredictor, Predictor
from icot.inference.voting import VotingPredictor
from icot.methods.base import PredictorParts
from icot.reporting.figures import failures, tradeoff
from icot.reporting.tables import print_evaluations, print_further, print_grid, print_votes
from icot.runs.checkpoints import ALL, FINAL, Checkpoint, select, select_stage
from icot.runs.evaluations import Place, keep_evaluation, slug
from icot.runs.kept_run import KeptRun
from icot.runs.layout import (
    EVALUATION,
    FAILURES,
    PREDICTIONS,
    TRADEOFF_FIGURE,
    TRADEOFF_TABLE,
    predictions_file,
)
from icot.system.hardware import precision_context
from icot.tasks.answers import extract_answer
from icot.tasks.mixed_digits import DIGITS

# Names, or patterns of names, of the files of an evaluation.
WRITTEN = (
    EVALUATION,
    PREDICTIONS,
    predictions_file("*"),
    FAILURES,
    TRADEOFF_TABLE,
    TRADEOFF_FIGURE,
)
Point = tuple[Checkpoint, int | None]  # weights, and the budget to use them with


def run(cfg: EvaluateConfig, command: CommandLine) -> None:
    """Measure, write the files, print the table.

    Raises:
        PausedError: a server gives no more for now, with the command to go on.
    """
    try:
        evaluate(cfg, command)
    except PausedError as error:
        raise PausedError(f"{error}\n  {command.text}") from None


def evaluate(cfg: EvaluateConfig, command: CommandLine | None = None) -> dict[str, Any]:
    """The same; returns what ``evaluation.json`` says."""
    quiet_libraries()
    if cfg.predictor.kind in ASKED:
        return score_prompted(cfg, command or CommandLine("evaluate"))
    return score_run(cfg) if cfg.predictions is None else score_file(cfg)


def score_file(cfg: EvaluateConfig) -> dict[str, Any]:
    """Score the outputs of another program, with the official answer extraction."""
    assert cfg.predictions is not None
    path = Path(cfg.predictions)
    found = read_predictions(
        path, lambda text, target: extract_answer(text) == extract_answer(target)
    )[: cfg.examples]
    positions = answer_positions(found, extract_answer)
    record = {
        "predictions": str(path),
        **share(sum(p.correct for p in found), len(found)),
        "failures": {POSITION: as_rows(positions)},
    }
    with keep_evaluation(path.parent, cfg.out, (EVALUATION,), path.stem) as place:
        print_evaluations(Console(), [{**record, "name": path.name}])
        record = place.keep(record)
    _print_where(place.folder, [EVALUATION])
    return record


def score_run(cfg: EvaluateConfig) -> dict[str, Any]:
    """Score the weights that the configuration names, and draw the figures."""
    kept, chosen = select(cfg.run_dir, cfg.checkpoint, cfg.stage, cfg.trust)
    everything = cfg.checkpoint is None and cfg.stage == ALL
    name = _name(cfg, ALL if everything else chosen[0].name)
    several = isinstance(cfg.budget, list)
    budgets = cfg.budget if isinstance(cfg.budget, list) else [cfg.budget]
    points = [(checkpoint, budget) for checkpoint in chosen for budget in budgets]
    with keep_evaluation(kept.folder, cfg.out, WRITTEN, *name) as place:
        record = _score_into(place, cfg, kept, points, everything or several)
    written = sorted(path.name for name in WRITTEN for path in place.folder.glob(name))
    _print_where(place.folder, written)
    return record


def _score_into(
    place: Place, cfg: EvaluateConfig, kept: KeptRun, points: list[Point], is_curve: bool
) -> dict[str, Any]:
    """Measure and write; what is measured stands at once."""
    further = further_sources(cfg, kept)
    baselines = [KeptRun(folder, cfg.trust) for folder in cfg.baselines]
    others = [(run, (select_stage(run, FINAL)[0], None)) for run in baselines]
    timed = is_curve and cfg.speed.examples > 0
    measured: list[Measured] = []
    for last in _measure(cfg, kept, points, further):
        measured.append(last)
        record = dict(last.record)
        if is_curve:
            record["stages"] = [one.record for one in measured]
        place.keep(record, unfinished=f"{len(measured)} of {len(points)} measured")
        name = last.record["name"]
        if is_curve:
            write_predictions(place.folder / predictions_file(name), last.predictions)
        for label, one in last.also.items():
            path = place.folder / predictions_file(f"{name}-{slug(label)}")
            write_predictions(path, one.predictions)
    measured_baselines = [
        one for run, point in others if timed for one in _measure(cfg, run, [point], further)
    ]
    print_evaluations(Console(), [one.record for one in measured])
    print_further(Console(), [one.record for one in measured])
    print_votes(Console(), [one.record for one in measured])
    print_grid(Console(), last.failures.get(DIGITS, []))
    write_predictions(place.folder / PREDICTIONS, last.predictions)
    if any(last.failures.values()):
        title = f"{record['task']}, {record['title']}: where it fails"
        failures(last.failures, place.folder / FAILURES, title)
    if timed:
        _tradeoff(place.folder, measured, measured_baselines, record)
    return place.keep(record)


def _measure(
    cfg: EvaluateConfig, run: KeptRun, points: list[Point], further: Mapping[str, Source]
) -> Iterator[Measured]:
    """Each point measured, on the run's own examples and on the further ones."""
    source = own_source(cfg, run)
    method, options = build_method(run.cfg.method)
    make = model_maker(method, options)
    for checkpoint, of_checkpoint in groupby(points, key=itemgetter(0)):
        weights = load_weights(run, checkpoint, source.task, cfg.accelerator, make)
        parts = PredictorParts(weights.model, run.trusted, cfg.batch_size, cfg.decode)
        predictor = method.build_predictor(parts, options)
        if isinstance(cfg.predictor, VotePredictorConfig):
            predictor = _voting(cfg.predictor, predictor, weights, source)
        for _, budget in of_checkpoint:
            choose = partial(
                choose_examples,
                weights,
                tokens_removed=cfg.tokens_removed,
                budget=budget,
                limit=cfg.examples,
                cache_dir=Path(cfg.paths.cache_dir),
            )
            own = choose(source, max_new_tokens=cfg.max_new_tokens or 0)
            # Further examples may lack the chain that the model writes.
            others = [
                choose(one, max_new_tokens=own.examples.longest_target) for one in further.values()
            ]
            with precision_context(predictor.device, cfg.precision):
                measured = measure(
                    predictor,
                    own.examples,
                    weights.tokenizer,
                    source,
                    about={**own.describe(), "precision": cfg.precision},
                    timed=cfg.speed.examples,
                    seconds=cfg.speed.seconds,
                )
                also = {
                    name: judge(predictor, one.examples, weights.tokenizer, one.source)
                    for name, one in zip(further, others, strict=True)
                }
                if isinstance(predictor, VotingPredictor):
                    greedy = judge(predictor.reference, own.examples, weights.tokenizer, source)
                    measured.record["votes"]["greedy"] = greedy.record["accuracy"]
            if further:
                measured.record["also"] = {
                    name: {**one.where(), **also[name].record}
                    for name, one in zip(further, others, strict=True)
                }
            yield replace(measured, also=also)


def _voting(
    option: VotePredictorConfig, predictor: Predictor, weights: Weights, source: Source
) -> VotingPredictor:
    """The vote over samples of a run's model.

    Raises:
        ConfigError: the model always needs the gold chain, or draws no samples of its own.
        UserError: the model answers nothing.
    """
    if predictor.settings.get("reads_the_gold_chain"):
        raise ConfigError(
            [
                f"predictor=vote: {weights.run.folder} answers only with the states of the gold "
                "chain, so it has nothing to vote on; leave out predictor=vote, or vote with the "
                "run of method=coupled that uses it"
            ]
        )
    if not isinstance(predictor, GreedyPredictor):
        raise ConfigError([f"predictor=vote: {weights.run.folder} has no model that writes alone"])
    return VotingPredictor(
        predictor,
        weights.tokenizer,
        source.task.extract_answer,
        n=option.n,
        temperature=option.temperature,
        top_p=option.top_p,
        seed=option.seed,
    )


def _tradeoff(
    out: Path, stages: list[Measured], baselines: list[Measured], record: dict[str, Any]
) -> None:
    rows = tradeoff_rows(
        [one.tradeoff_point() for one in stages]
        + [one.tradeoff_point(baseline=True) for one in baselines]
    )
    write_tradeoff(out / TRADEOFF_TABLE, rows)
    n, device = record["n"], record["device"]
    tradeoff(rows, out / TRADEOFF_FIGURE, f"{record['task']}, {n:,} examples", f" ({device})")


def _print_where(folder: Path, files: list[str]) -> None:
    text = f"Written into {folder}: {', '.join(files)}"
    Console().print(text, highlight=False, soft_wrap=True)


def _name(cfg: EvaluateConfig, stage: str) -> list[str]:
    """What an evaluation's folder is called after: stage, examples, and what else was set."""
    examples = cfg.split if cfg.data_file is None else Path(cfg.data_file).stem
    name = [f"stage-{stage}" if stage.isdecimal() else stage, examples]
    if isinstance(cfg.predictor, VotePredictorConfig):
        name.append(f"vote-{cfg.predictor.n}")
    if cfg.tokens_removed is not None:
        name.append(f"removed-{cfg.tokens_removed}")
    if cfg.budget is not None:
        name.append("budgets" if isinstance(cfg.budget, list) else f"budget-{cfg.budget}")
    return name
