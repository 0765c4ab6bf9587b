"""``python -m icot.export``: a run's model as a folder that plain transformers loads.

    python -m icot.export run_dir=outputs/RUN stage=final out=FOLDER

Measures the accuracy that goes onto the model card, writes the folder, loads it back without icot,
and compares the answers to some questions with what ``icot.evaluate`` says.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from icot.commands.build import build_method, build_task
from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import ExportConfig
from icot.data.leading_tokens import leading_tokens
from icot.errors import RunError
from icot.evaluation.loading import Source, load_for_evaluation
from icot.evaluation.measurement import numbers
from icot.evaluation.predictions import Prediction
from icot.evaluation.scoring import evaluate
from icot.methods.base import PredictorParts
from icot.models.export import generate_answers, make_standalone, prompt_for, save_standalone
from icot.reporting.cards import model_card
from icot.runs.checkpoints import select

COMPARED = 20  # questions that the folder is checked with
CARD = "README.md"


def run(cfg: ExportConfig, command: CommandLine) -> None:
    """Measure, write, load back and compare."""
    quiet_libraries()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    out = Path(cfg.out)
    _check_free(out)
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
    base = run_.cfg.model.name_or_path
    model, adapters_of = make_standalone(
        subject.model, examples.position_jump, cfg.merge_lora, base
    )
    eos = str(tokenizer.eos_token)
    longest = examples.longest_target - internalized  # the prompt has the first separator
    first = found.predictions[0]
    measured = {
        "task": task.name,
        "stage": checkpoint.stage,
        "tokens_removed": examples.tokens_removed,
        "longest_cot": examples.store.longest_cot,
        "split": cfg.split,
        **numbers(found),
    }
    with _in_one_step(out) as folder:
        leading = leading_tokens(tokenizer)
        save_standalone(folder, model.cpu(), tokenizer, longest, internalized, leading)
        same = None
        if internalized and adapters_of is None:
            same = _compare(folder, found.predictions[:COMPARED], eos)
        card = model_card(
            measured,
            prompt=prompt_for(first.question, eos, internalized),
            target=first.target,
            eos=eos,
            internalized=internalized,
            max_new_tokens=longest,
            same=same,
            adapters_of=adapters_of,
            origin=f"{run_.folder.name}, {checkpoint.path.name}",
        )
        (folder / CARD).write_text(card, encoding="utf-8")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"exact match {found.accuracy:.4f} on {found.n:,} examples")
    if same is not None:
        console.print(f"{same[0]} of {same[1]} answers of the folder are those of icot.evaluate")
    console.print(f"Written: {out}")


def _compare(folder: Path, predictions: Sequence[Prediction], eos: str) -> tuple[int, int]:
    """How many of the answers are the same when plain transformers loads the folder."""
    prompts = [prompt_for(p.question, eos, internalized=True) for p in predictions]
    pairs = zip(generate_answers(folder, prompts), predictions, strict=True)
    return sum(" ".join(a.split()) == p.prediction for a, p in pairs), len(predictions)


def _check_free(out: Path) -> None:
    """Refuse to write over anything, before any work is done.

    Raises:
        RunError: there is something.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunError(f"out={out} exists and is not an empty folder; choose another.")


@contextmanager
def _in_one_step(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when all is written.

    Raises:
        RunError: it cannot be written.
    """
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        partial.replace(out)
    except OSError as error:
        raise RunError(f"out={out}: cannot be written ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
