"""Exporting a trained model to a folder that plain transformers loads and generates from.

The exported model must work without icot: kept position ids become a change of the position table,
the tokenizer adds the tokens that examples began with in training and no others, and the generation
settings are greedy. The prompt of a fully internalized model ends with both separators,

    " 5 6 3 2 * 7 4 3 4 <eos><eos>"  ->  "#### 5 5 6 0 8 2 0 1"

so that its output ends at the first end-of-sequence token, as transformers expects.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    StoppingCriteriaList,
)

from icot.errors import ModelError, first_line
from icot.models.adapters import find_trained_whole
from icot.models.hub import hub_is_reachable
from icot.models.introspection import config_of
from icot.models.positions import (
    learned_positions,
    position_tables,
    positions_key,
    replace_rows,
    rows_before,
)
from icot.system.hardware import device_for


def prompt_for(question: str, eos: str, internalized: bool, fillers: str = "") -> str:
    """The prompt of a question; both separators if the model is fully internalized."""
    return f" {question} {eos}{fillers}" + (eos if internalized else "")


def make_standalone(
    model: nn.Module, jump: tuple[int | None, int], merge_lora: bool, base: str
) -> tuple[nn.Module, str | None]:
    """Change a model so that transformers alone can use it.

    Args:
        model: with its weights.
        jump: the position at which ids jump (None if examples differ), and by how many (0 if they
            do not jump).
        merge_lora: merge adapters into the weights.
        base: the name of the model that adapters were trained on.

    Returns:
        The model, and the base model that its adapters need; None without adapters.

    Raises:
        ModelError: transformers alone cannot use it; the message says why and what to do.
    """
    adapted = hasattr(model, "merge_and_unload")
    moves = jump[1] > 0
    if adapted and merge_lora:
        model, adapted = model.merge_and_unload(), False  # type: ignore[operator]
    if adapted and moves:
        raise ModelError(
            "schedule.keep_position_ids: the export must change the position table, which adapters "
            "do not contain; set merge_lora=true."
        )
    if moves:
        _move_positions(model, *jump)
    if adapted:
        _check_length(model, base)
        for settings in model.peft_config.values():  # type: ignore[operator]
            settings.base_model_name_or_path = base
    return model, base if adapted else None


def _check_length(model: nn.Module, base: str) -> None:
    """Refuse adapters of earlier versions, which lengthened the base model without training that.

    Raises:
        ModelError: the base model is shorter, and the adapters do not hold the difference.
    """
    try:
        shape = AutoConfig.from_pretrained(base, local_files_only=not hub_is_reachable())
    except OSError:  # the base model is not there
        return
    length, whole = learned_positions(shape), find_trained_whole(model.state_dict())
    if length != learned_positions(config_of(model)) and not whole:
        raise ModelError(
            f"the base model {base!r} has {length} positions, and this run's adapters, which an "
            "earlier version has trained, do not hold those it had beyond; set merge_lora=true."
        )


def loading_arguments(model: nn.Module) -> dict[str, Any]:
    """The arguments with which ``from_pretrained`` loads an exported model; mostly none.

    Adapters with lengthened position embeddings say nothing of it to transformers, which makes the
    base model first.
    """
    if not find_trained_whole(model.state_dict()):
        return {}
    config = config_of(model)
    return {positions_key(config): learned_positions(config), "ignore_mismatched_sizes": True}


def _move_positions(model: nn.Module, start: int | None, jump: int) -> None:
    """Cut the jump out of the position table, so that consecutive ids have the same embeddings.

    This is possible only if the ids of all examples jump at the same position by the same number,
    as in multiplication.

    Raises:
        ModelError: examples differ, or the positions are rotary.
    """
    tables, config = position_tables(model), config_of(model)
    if start is None or not tables:
        why = "they are rotary" if not tables else "questions or chains differ in length"
        raise ModelError(
            "schedule.keep_position_ids: this run's position ids jump over the removed tokens, "
            f"which plain transformers cannot do ({why})."
        )
    for table in tables:
        begin = rows_before(table) + start
        kept = torch.cat([table.weight[:begin], table.weight[begin + jump :]]).detach()
        replace_rows(table, kept)
        setattr(config, positions_key(config), len(kept) - rows_before(table))


def save_standalone(
    folder: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    ends_at_separator: bool,
    leading: Sequence[int] = (),
) -> None:
    """Write model, tokenizer and generation settings.

    Args:
        ends_at_separator: the output ends at its first separator; else the model writes all
            ``max_new_tokens``, and the reader cuts the text after the second.
        leading: the tokens that every example began with in training.

    Raises:
        ModelError: the tokenizer makes other tokens when it is loaded again.
    """
    eos = tokenizer.eos_token_id
    config = config_of(model)
    config.use_cache = True
    generation = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=eos if ends_at_separator else None,
        pad_token_id=eos,
        bos_token_id=eos,
    )
    model.generation_config = generation
    model.save_pretrained(folder)
    generation.save_pretrained(folder)
    _save_tokenizer(folder, tokenizer, leading)


def _save_tokenizer(
    folder: Path, tokenizer: PreTrainedTokenizerBase, leading: Sequence[int]
) -> None:
    """Write the tokenizer; called without further arguments, it makes the tokens of training.

    Raises:
        ModelError: it makes others when it is loaded again.
    """
    text = prompt_for("1 + 1", str(tokenizer.eos_token), internalized=True)
    expected = [*leading, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    kinds = [tokenizer]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        names = [str(name) for name in tokenizer.convert_ids_to_tokens(list(leading))]
        backend.post_processor = TemplateProcessing(
            single=[*names, "$A"],
            pair=[*names, "$A", "$B"],
            special_tokens=list(zip(names, leading, strict=True)),
        )
        general = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=backend, **tokenizer.special_tokens_map
        )
        kinds.append(general)  # for classes that make their own post-processor (GPT-NeoX)
    for kind in kinds:
        kind.save_pretrained(folder)
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if loaded(text)["input_ids"] == expected:
            return
    raise ModelError(
        "the exported tokenizer would begin a prompt with other tokens than training had; train "
        "with model.add_bos=null to export."
    )


def tokenize_prompts(folder: Path, prompts: list[str]) -> list[list[int]]:
    """The tokens that plain transformers makes of each prompt with the folder's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return [list(tokenizer(prompt)["input_ids"]) for prompt in prompts]


def load_standalone(folder: Path, loading: Mapping[str, Any], accelerator: str) -> nn.Module:
    """The model of an exported folder, to decode with.

    Args:
        folder: of the model.
        loading: what ``loading_arguments`` said of it.
        accelerator: as of ``device_for``.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, **loading)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: the model cannot be loaded: {first_line(error)}") from None
    made: nn.Module = model.eval().to(device_for(accelerator))
    return made


def generate_outputs(
    folder: Path,
    loading: Mapping[str, Any],
    prompts: list[list[int]],
    eos: int,
    max_new_tokens: int | None,
    separators: int,
    jump: int = 0,
    jumping: int = 1,
) -> list[list[int]] | None:
    """Generate with plain transformers from the folder.

    Args:
        folder: of the exported model.
        loading: what ``loading_arguments`` says of it.
        prompts: tokens.
        eos: the separator.
        max_new_tokens: the length of the longest output; None leaves this and the end of an output
            to the folder's own settings.
        separators: the number of separators with which an output ends.
        jump: by how much the position ids of a prompt's last ``jumping`` tokens, and of all that
            follow, jump.

    Returns:
        The new tokens for each prompt; None if the model cannot be loaded, because the base model
        of its adapters is not there.
    """
    settings: dict[str, Any] = {}
    if max_new_tokens is not None:
        settings = {"do_sample": False, "eos_token_id": None}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, **loading)
    except OSError:
        return None
    limit = max_new_tokens or model.generation_config.max_new_tokens
    positions = learned_positions(model.config)
    outputs = []
    for prompt in prompts:
        told: dict[str, torch.Tensor] = {}
        if jump:
            position = torch.arange(len(prompt), device=model.device)
            told["position_ids"] = (position + jump * (position >= len(prompt) - jumping))[None]
        inputs = torch.tensor([prompt], device=model.device)

        def has_ended(
            ids: torch.Tensor, scores: object, start: int = len(prompt), **_: object
        ) -> torch.Tensor:
            return (ids[:, start:] == eos).sum(-1) >= separators

        # As in icot's decoding, an output that does not end takes all learned positions.
        room = limit if positions is None else min(limit, positions - len(prompt) - jump + 1)
        ended = StoppingCriteriaList([has_ended])
        written = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            pad_token_id=eos,
            max_new_tokens=room,
            stopping_criteria=ended,
            **told,
            **settings,
        )
        outputs.append(written[0, len(prompt) :].tolist())
    return outputs
