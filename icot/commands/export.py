"""``python -m icot.export``: a run's model as a folder that plain transformers loads.

    python -m icot.export run_dir=outputs/RUN stage=final out=FOLDER

Measures the accuracy that goes onto the model card, writes the folder, loads it back without icot,
and compares the tokens of all questions, and the answers to some, with those of the evaluation.
"""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from icot.commands.build import build_task
from icot.commands.build_method import build_method, model_maker
from icot.commands.export_parts import export_parts
from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import ExportConfig
from icot.config.options import AnySchedule, AnyTask
from icot.data.fillers import FILLER
from icot.data.leading_tokens import leading_tokens
from icot.data.staged import StagedExamples
from icot.data.tokenized import detokenize
from icot.errors import ModelError, RunError
from icot.evaluation.loading import Source, Subject, load_for_evaluation
from icot.evaluation.measurement import numbers
from icot.evaluation.scoring import Evaluation, evaluate
from icot.inference.greedy import without_end
from icot.methods.base import PredictorParts
from icot.models.export import (
    generate_outputs,
    loading_arguments,
    make_standalone,
    prompt_for,
    save_standalone,
    tokenize_prompts,
)
from icot.reporting.cards import (
    CardExample,
    CardUse,
    Check,
    describe_schedule,
    describe_training,
    describe_weights,
    model_card,
)
from icot.runs.checkpoints import select
from icot.runs.layout import CARD, EXPORTED
from icot.system.files import write_text
from icot.system.output import lock_output, write_at_once
from icot.tasks.answers import ANSWER_MARK

COMPARED = 20  # questions that the folder answers


@dataclass(frozen=True)
class Use:
    """A way to use the exported weights.

    Attributes:
        examples: at their stage.
        found: their evaluation.
        internalized: a prompt ends with both separators.
        jump: what the position id of a prompt's separator tells of the chain, 0 for nothing.
    """

    examples: StagedExamples
    found: Evaluation
    internalized: bool
    jump: int

    @property
    def longest(self) -> int:
        """Tokens of the longest output."""
        return self.examples.longest_target - self.internalized  # then it begins after the first


def run(cfg: ExportConfig, command: CommandLine) -> None:
    """Measure, write, load back and compare."""
    quiet_libraries()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    out = Path(cfg.out)
    _check_free(out)
    with lock_output(out):
        _check_free(out)  # another process may just have written it
        _export(cfg, out)


def _export(cfg: ExportConfig, out: Path) -> None:
    run_, (checkpoint, *_) = select(cfg.run_dir, cfg.checkpoint, cfg.stage, cfg.trust)
    task = build_task(run_.cfg.task)
    method, options = build_method(run_.cfg.method)
    subject = load_for_evaluation(
        run_,
        checkpoint,
        Source.own(task, cfg.split),
        tokens_removed=cfg.tokens_removed,
        limit=cfg.examples,
        accelerator=cfg.accelerator,
        cache_dir=Path(cfg.paths.cache_dir),
        make=model_maker(method, options),
    )
    model, tokenizer = subject.weights.model, subject.weights.tokenizer
    schedule = run_.cfg.schedule
    predictor = method.build_predictor(PredictorParts(model, run_.trusted, cfg.batch_size), options)
    if method.export_parts is not None:
        export_parts(cfg, out, subject, method, options)
        return
    if not hasattr(model, "save_pretrained"):
        raise ModelError(
            f"a {method.name} run is not a model that answers by itself; export the run of "
            "method=coupled that uses it."
        )
    if schedule.separators == 1:
        raise ModelError(
            "schedule.separators=1: the prompt of an exported model ends with both separators; to "
            "export, train with schedule=no_cot."
        )
    is_dial = cfg.tokens_removed is None and _is_dial(schedule, subject)
    uses = [
        Use(
            examples,
            evaluate(predictor, examples, task, tokenizer),
            internalized=subject.fully_internalized and not is_dial,
            jump=examples.tokens_removed * is_dial,
        )
        for examples in (_budgets(subject.examples) if is_dial else [subject.examples])
    ]
    model, adapters_of = make_standalone(
        model,
        (None, 0) if is_dial else subject.examples.position_jump,
        cfg.merge_lora,
        run_.cfg.model.name_or_path,
    )
    title = method.title or method.name
    training = describe_training(title, method.is_removal, schedule, checkpoint.tokens_removed)
    done = {
        "stage": _describe_stage(subject, cfg.tokens_removed),
        "method": method.name,
        "schedule": describe_schedule(schedule),
        "weights": describe_weights(run_.cfg.model, cfg.merge_lora),
        "trained in": f"{run_.folder.name}, {checkpoint.path.name}",
    }
    with write_at_once(out) as folder:
        leading, longest = leading_tokens(tokenizer), max(use.longest for use in uses)
        fillers = uses[0].examples.fillers  # a fixed count where there are several budgets
        save_standalone(folder, model.cpu(), tokenizer, longest, uses[0].internalized, leading)
        loading = loading_arguments(model)
        first = range(min(COMPARED, len(uses[0].examples)))
        shown = next((i for i in first if all(u.found.predictions[i].correct for u in uses)), 0)
        on_card = [
            CardUse(
                {
                    "task": task.name,
                    "tokens_removed": use.examples.tokens_removed,
                    "longest_cot": use.examples.store.longest_cot,
                    "split": cfg.split,
                    **numbers(use.found),
                },
                *_check(folder, loading, subject, use, adapters_of, shown),
            )
            for use in uses
        ]
        card = model_card(
            on_card,
            done,
            training=training,
            eos=str(tokenizer.eos_token),
            internalized=uses[0].internalized,
            gradual=schedule.kind != "fixed",
            max_new_tokens=longest,
            adapters_of=adapters_of,
            loading=loading,
            filler=FILLER,
            fillers=(int(fillers.min()), int(fillers.max())),
        )
        write_text(folder / CARD, card)
        write_text(folder / EXPORTED, _facts(uses, run_.cfg.task, loading, is_dial) + "\n")
    console = Console(highlight=False, soft_wrap=True)
    for used in on_card:
        found = used.figures
        with_budget = f" with {found['tokens_removed']} tokens removed" if is_dial else ""
        console.print(
            f"exact match {found['accuracy']:.4f} on {found['n']:,} examples{with_budget}"
        )
        console.print(used.check.text)
    console.print(f"Written: {out}")


def _facts(uses: list[Use], task: AnyTask, loading: dict[str, Any], is_dial: bool) -> str:
    """What icot must know to use the folder: ``icot.demo`` reads it."""
    names = ("accuracy", "accuracy_low", "accuracy_high")
    return json.dumps(
        {
            "task": task.as_dict(),
            "side": uses[0].examples.side,
            "longest_cot": uses[0].examples.store.longest_cot,
            "fully_internalized": uses[0].internalized,
            "told_by_position": is_dial,
            "filler_count": uses[0].examples.filler.count,
            "loading": loading,
            "stages": [
                {
                    "tokens_removed": use.examples.tokens_removed,
                    **{name: numbers(use.found)[name] for name in names},
                }
                for use in uses
            ],
        },
        indent=2,
    )


def _is_dial(schedule: AnySchedule, subject: Subject) -> bool:
    """Whether the weights write as much of the chain as they are told, from nothing to the whole.

    What tells them is by how much the position ids jump, which must be the same for all examples.
    """
    told = schedule.dial_share > 0 and schedule.jumping_ids == "from_separator"
    if not told or not subject.fully_internalized:
        return False
    position, _ = subject.examples.at(subject.examples.store.longest_cot).position_jump
    return position is not None


def _budgets(examples: StagedExamples) -> list[StagedExamples]:
    """The examples with the whole chain, with half of it, and without it."""
    longest = examples.store.longest_cot
    return [examples.at(removed) for removed in (0, longest - longest // 2, longest)]


def _describe_stage(subject: Subject, asked_for: int | None) -> str:
    """The stage of the weights, and whether they are used at another one."""
    checkpoint = subject.checkpoint
    stage = "unknown" if checkpoint.stage is None else str(checkpoint.stage)
    trained = checkpoint.tokens_removed
    if asked_for is None or trained is None or subject.examples.tokens_removed == trained:
        return stage
    return f"{stage}, where {trained} tokens were removed; used with {asked_for} removed"


def _check(
    folder: Path,
    loading: dict[str, Any],
    subject: Subject,
    use: Use,
    adapters_of: str | None,
    shown: int,
) -> tuple[Check, CardExample]:
    """Load the folder with plain transformers, and compare with what was evaluated.

    Its tokenizer gets the text of every evaluated question, and its model the tokens of some.

    Returns:
        The comparison, and the example ``shown`` for the card.
    """
    examples, internalized, predictions = use.examples, use.internalized, use.found.predictions
    tokenizer, eos_token_id = subject.weights.tokenizer, examples.eos_token_id
    eos = str(tokenizer.eos_token)
    stored = islice(subject.source.stored(tokenizer), len(examples))
    texts = [
        prompt_for(example.question, eos, internalized, FILLER * int(n))
        for example, n in zip(stored, examples.fillers, strict=True)
    ]
    expected = [row + [eos_token_id] * internalized for row in examples.prompts_and_targets[0]]
    tokens = tokenize_prompts(folder, texts)
    same_tokens = sum(a == b for a, b in zip(tokens, expected, strict=True))

    own_settings = internalized and adapters_of is None
    outputs = generate_outputs(
        folder,
        loading,
        expected[:COMPARED],
        eos_token_id,
        max_new_tokens=None if own_settings else use.longest,
        separators=1 if internalized else 2,
        jump=use.jump,
        jumping=1 + int(examples.fillers.max()),
    )
    compared = predictions[: len(outputs or ())]
    # In the evaluation, an output begins with the first separator.
    whole = [[eos_token_id] * internalized + output for output in outputs or ()]
    kept = [without_end(output, eos_token_id) for output in whole]
    answers = detokenize(tokenizer, kept)
    same = [p for answer, p in zip(answers, compared, strict=True) if answer == p.prediction]
    check = Check(
        same_tokens,
        len(texts),
        same_answers=len(same),
        answered=len(answers),
        same_correct=sum(p.correct for p in same),
        correct=sum(p.correct for p in compared),
        internalized=internalized,
    )

    correct = predictions[shown].target
    printed = "".join(correct.partition(ANSWER_MARK)[1:])
    chain = correct.partition(ANSWER_MARK)[0].strip()
    if answers:  # between the two separators
        after = kept[shown].index(eos_token_id) if eos_token_id in kept[shown] else len(kept[shown])
        chain, printed = detokenize(tokenizer, [kept[shown][:after], kept[shown][after:]])
    return check, CardExample(texts[shown], printed, correct, chain)


def _check_free(out: Path) -> None:
    """Refuse to write over anything, before any work is done.

    Raises:
        RunError: there is something.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunError(f"out={out} exists and is not an empty folder; choose another.")
