"""A model of several parts in a folder, as ``icot.export`` writes it and ``icot.load`` reads it.

student/  emulator/       ordinary folders of transformers: a causal LM each
rest.safetensors          the weights that belong to none of them, by their names in the model
parts.json                which part is which, and at which stage the weights were trained
config.yaml               the run's configuration
README.md                 the card
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from icot.errors import RunError, first_sentence
from icot.runs.layout import PARTS, REST
from icot.system.files import write_text


def save_parts(
    folder: Path, model: nn.Module, parts: Mapping[str, nn.Module], about: Mapping[str, Any]
) -> None:
    """Write the parts of a model, each a causal LM of transformers, and the rest.

    Args:
        folder: where.
        model: the whole, on the CPU.
        parts: modules within it, by the names of their folders.
        about: further entries of parts.json.

    Raises:
        RunError: it cannot be written.
    """
    names = {id(module): name for name, module in model.named_modules()}
    prefixes = {part: f"{names[id(module)]}." for part, module in parts.items()}
    for part, module in parts.items():
        module.save_pretrained(folder / part)  # type: ignore[operator]
    rest = {
        name: weight.contiguous()
        for name, weight in model.state_dict().items()
        if not name.startswith(tuple(prefixes.values()))
    }
    save_file(rest, folder / REST)
    write_text(folder / PARTS, json.dumps({"parts": prefixes, **about}, indent=2) + "\n")


def read_parts(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of the whole model by their names in it, and the content of parts.json.

    Runs no code from the folder.

    Raises:
        RunError: it is not such a folder, or damaged.
    """
    try:
        about = json.loads((folder / PARTS).read_text(encoding="utf-8"))
        weights: dict[str, Tensor] = load_file(folder / REST)
        for part, prefix in about["parts"].items():
            if Path(part).name != part:
                raise ValueError(f"{part} is no name of a folder in it")
            model = AutoModelForCausalLM.from_pretrained(
                folder / part, local_files_only=True, trust_remote_code=False, dtype="auto"
            )
            weights |= {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError(
            f"{folder}: cannot be read as an exported model of several parts "
            f"({first_sentence(error)})."
        ) from None
    return weights, about
