"""What a method brings, as one record; everything else it shares with the other methods.

    METHOD = Method(
        name="icot_si",
        build_module=build_module,         model and optimizer       -> a TrainingModule
        build_view=build_view,             separator, side, ...      -> a View
        build_callbacks=build_callbacks,   resets, watches, ...      -> RunCallbacks
        build_predictor=build_predictor,   a trained model           -> a Predictor
    )

A method is found by its dotted name, so that adding one, also in a package of one's own, changes no
file here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from lightning import Callback
from torch import nn
from torch.optim import Optimizer

from icot.config.section import Section
from icot.data.views import View
from icot.errors import ConfigError
from icot.inference.predictor import Decode, Predictor
from icot.removal import Side
from icot.training.module import TrainingModule

Options = Any  # the method's own keys of the configuration, an object of ``Method.options``


@dataclass(frozen=True)
class ModuleParts:
    """What a module is made of.

    Attributes:
        model: what is trained.
        optimizer: makes the optimizer for a model.
        warmup_steps, decay_steps: rise and fall of the learning rate, in updates.
        compile_mode: of ``torch.compile``; None trains without.
        method: name of the method, for checkpoints.
    """

    model: nn.Module
    optimizer: Callable[[nn.Module], Optimizer]
    warmup_steps: int
    decay_steps: int
    compile_mode: str | None
    method: str


@dataclass(frozen=True)
class ViewParts:
    """What a view is made of; the terms are those of ``icot.data.views.StageView``.

    Attributes:
        seed: of the run.
        smoothing_lambda: of the offsets, where a method draws some.
    """

    eos_token_id: int
    seed: int
    side: Side
    keep_position_ids: bool
    smoothing_lambda: float
    max_train_tokens: int | None
    packing: bool
    width_multiple: int


@dataclass(frozen=True)
class CollapseParts:
    """When accuracy counts as lost for good: ``share``, ``validations``, ``stop``."""

    share: float
    validations: int
    stop: bool


@dataclass(frozen=True)
class CallbackParts:
    """What callbacks are made of.

    Attributes:
        reset_optimizer: forget the moments at each removal.
        reset_warmup_steps: updates over which the learning rate rises again then.
        finish_steps: updates after everything is removed, at which training ends; None for no end.
        collapse: None where nothing watches for one.
    """

    reset_optimizer: bool
    reset_warmup_steps: int
    finish_steps: int | None
    collapse: CollapseParts | None


@dataclass(frozen=True)
class PredictorParts:
    """What a predictor is made of.

    Attributes:
        model: with its weights, on its device.
        batch_size: examples decoded at once.
        decode: ``verify`` decodes only what one forward pass leaves open; ``always`` everything.
    """

    model: nn.Module
    batch_size: int = 500
    decode: Decode = "verify"


class NoOptions(Section):
    """Of a method without keys of its own."""


@dataclass(frozen=True)
class Method:
    """What a method brings.

    Attributes:
        name: as checkpoints and summaries say it.
        build_module: the LightningModule.
        build_view: what is left of a batch.
        build_callbacks: its own callbacks, called behind the run's, in this order.
        build_predictor: what answers questions with the trained model.
        options: schema of the method's own keys; any other key is a mistake.
        ignores: groups of the configuration without effect; setting one is a mistake.
        title: what a model card calls it, as Markdown: ``distillation ([Doe 2026](https://...))``;
            its name if there is none.
        is_removal: the method is the gradual removal of the chain and nothing else. A run with
            ``schedule=explicit`` or ``no_cot`` is then a baseline, and not called by the title.
    """

    name: str
    build_module: Callable[[ModuleParts, Options], TrainingModule]
    build_view: Callable[[ViewParts, Options], View]
    build_callbacks: Callable[[CallbackParts, Options], list[Callback]]
    build_predictor: Callable[[PredictorParts, Options], Predictor]
    options: type[Section] = NoOptions
    ignores: tuple[str, ...] = ()
    title: str = ""
    is_removal: bool = False


def method_named(name: str) -> Method:
    """The record of a method.

    Args:
        name: of a folder of ``icot.methods``, whose ``record.METHOD`` it is, or the dotted name of
            a record anywhere, ``package.module.METHOD``.

    Raises:
        ConfigError: there is none.
    """
    dotted = name if "." in name else f"{__package__}.{name}.record.METHOD"
    module, _, attribute = dotted.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # a package that the method needs is not there
        raise ConfigError([f"method={name}: there is no {module}"]) from None
    except AttributeError:
        raise ConfigError([f"method={name}: {module} has no {attribute}"]) from None
    if not isinstance(found, Method):
        raise ConfigError([f"method={name}: {dotted} is no icot.methods.base.Method"])
    return found
