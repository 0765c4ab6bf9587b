"""``python -m icot.export``: a run's model as a folder that plain transformers loads.

    python -m icot.export run_dir=outputs/RUN stage=final out=FOLDER

Measures the accuracy that goes onto the model card, writes the folder, loads it back without icot,
and compares the tokens of all questions, and the answers to some, with those of the evaluation.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from icot.commands.build import build_method, build_task
from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import ExportConfig
from icot.data.leading_tokens import leading_tokens
from icot.data.tokenized import detokenize
from icot.errors import RunError
from icot.evaluation.loading import Source, Subject, load_for_evaluation
from icot.evaluation.measurement import numbers
from icot.evaluation.predictions import Prediction
from icot.evaluation.scoring import evaluate
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
    Check,
    describe_schedule,
    describe_training,
    describe_weights,
    model_card,
)
from icot.runs.checkpoints import select
from icot.system.files import write_text
from icot.system.output import lock_output, write_at_once
from icot.tasks.answers import ANSWER_MARK

COMPARED = 20  # questions that the folder answers
CARD = "README.md"


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
    subject = load_for_evaluation(
        run_,
        checkpoint,
        Source.own(task, cfg.split),
        tokens_removed=cfg.tokens_removed,
        limit=cfg.examples,
        accelerator=cfg.accelerator,
        cache_dir=Path(cfg.paths.cache_dir),
    )
    tokenizer, examples = subject.tokenizer, subject.examples
    internalized = subject.fully_internalized
    method, options = build_method(run_.cfg.method)
    predictor = method.build_predictor(PredictorParts(subject.model, cfg.batch_size), options)
    found = evaluate(predictor, examples, task, tokenizer)
    model, adapters_of = make_standalone(
        subject.model, examples.position_jump, cfg.merge_lora, run_.cfg.model.name_or_path
    )
    longest = examples.longest_target - internalized  # the prompt has the first separator
    measured = {
        "task": task.name,
        "tokens_removed": examples.tokens_removed,
        "longest_cot": examples.store.longest_cot,
        "split": cfg.split,
        **numbers(found),
    }
    schedule = run_.cfg.schedule
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
        leading = leading_tokens(tokenizer)
        save_standalone(folder, model.cpu(), tokenizer, longest, internalized, leading)
        loading = loading_arguments(model)
        check, example = _check(folder, loading, subject, found.predictions, longest, adapters_of)
        card = model_card(
            measured,
            done,
            training=training,
            example=example,
            eos=str(tokenizer.eos_token),
            internalized=internalized,
            gradual=schedule.kind != "fixed",
            max_new_tokens=longest,
            check=check,
            adapters_of=adapters_of,
            loading=loading,
        )
        write_text(folder / CARD, card)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"exact match {found.accuracy:.4f} on {found.n:,} examples")
    console.print(check.text)
    console.print(f"Written: {out}")


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
    predictions: Sequence[Prediction],
    longest: int,
    adapters_of: str | None,
) -> tuple[Check, CardExample]:
    """Load the folder with plain transformers, and compare with what was evaluated.

    Its tokenizer gets the text of every evaluated question, and its model the tokens of some.

    Returns:
        The comparison, and an example for the card, answered correctly if there is such a one.
    """
    examples, internalized = subject.examples, subject.fully_internalized
    eos, eos_token_id = str(subject.tokenizer.eos_token), examples.eos_token_id
    stored = islice(subject.source.stored(subject.tokenizer), len(examples))
    texts = [prompt_for(example.question, eos, internalized) for example in stored]
    expected = [row + [eos_token_id] * internalized for row in examples.prompts_and_targets[0]]
    tokens = tokenize_prompts(folder, texts)
    same_tokens = sum(a == b for a, b in zip(tokens, expected, strict=True))

    own_settings = internalized and adapters_of is None
    outputs = generate_outputs(
        folder,
        loading,
        expected[:COMPARED],
        eos_token_id,
        max_new_tokens=None if own_settings else longest,
        separators=1 if internalized else 2,
    )
    compared = predictions[: len(outputs or ())]
    # In the evaluation, an output begins with the first separator.
    whole = [[eos_token_id] * internalized + output for output in outputs or ()]
    kept = [without_end(output, eos_token_id) for output in whole]
    answers = detokenize(subject.tokenizer, kept)
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

    shown = next((i for i, p in enumerate(compared) if p.correct), 0)
    correct = predictions[shown].target
    printed = "".join(correct.partition(ANSWER_MARK)[1:])
    if answers:  # between the two separators
        after = kept[shown].index(eos_token_id) if eos_token_id in kept[shown] else len(kept[shown])
        (printed,) = detokenize(subject.tokenizer, [kept[shown][after:]])
    return check, CardExample(texts[shown], printed, correct)


def _check_free(out: Path) -> None:
    """Refuse to write over anything, before any work is done.

    Raises:
        RunError: there is something.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunError(f"out={out} exists and is not an empty folder; choose another.")
