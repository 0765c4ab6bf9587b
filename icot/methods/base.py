"""The record of what a method provides; it shares everything else with the other methods.

    METHOD = Method(
        name="icot_si",
        build_module=build_module,         model and optimizer       -> a TrainingModule
        build_view=build_view,             separator, side, ...      -> a View
        build_callbacks=build_callbacks,   resets, watches, ...      -> RunCallbacks
        build_predictor=build_predictor,   a trained model           -> a Predictor
    )

A method is found by its dotted name, so adding one, here or in a user's package, changes no
existing file.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning import Callback
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedTokenizerBase

from icot.config.schema import ModelConfig, TrainConfig
from icot.config.section import Section
from icot.data.fillers import Filler
from icot.data.views import View
from icot.errors import ConfigError
from icot.inference.predictor import Decode, Predictor
from icot.removal import KeepIds, Side
from icot.training.module import TrainingModule

Options = Any  # the method's own keys of the configuration, an object of ``Method.options``


@dataclass(frozen=True)
class SettingsParts:
    """The arguments of a method's check of its options, before anything is built.

    Attributes:
        model: the model's settings.
        task: as its keys.
        separators: of the schedule.
        tokenizer: loads the run's tokenizer.
        planned: the configurations of runs that have not been trained yet, by directory, where a
            pipeline will train them first.
        trusted: packages whose code another run may name.
    """

    model: ModelConfig
    task: Mapping[str, Any]
    separators: int
    tokenizer: Callable[[], PreTrainedTokenizerBase]
    planned: Mapping[str, TrainConfig]
    trusted: Collection[str]


@dataclass(frozen=True)
class ModelParts:
    """The arguments of what a method makes of a causal LM.

    Attributes:
        model: the causal LM, new or with another model's weights.
        eos_token_id: the separator.
    """

    model: nn.Module
    eos_token_id: int


@dataclass(frozen=True)
class ModuleParts:
    """The arguments of a LightningModule.

    Attributes:
        model: what is trained.
        optimizer: makes the optimizer for a model.
        warmup_steps: of the learning rate's rise, in updates.
        decay_steps: of its fall at the end, in updates.
        compile_mode: of ``torch.compile``; None trains without.
        method: name of the method, for checkpoints.
        chain_loss: of the schedule; 0 is no such loss.
        chain_loss_layers: of the schedule.
        longest_cot: tokens of the longest chain.
        count_first: of the schedule; False where it has no such key.
        tokenizer: of the run, for methods that compare it with another run's.
        trusted: packages whose code another run may name.
    """

    model: nn.Module
    optimizer: Callable[[nn.Module], Optimizer]
    warmup_steps: int
    decay_steps: int
    compile_mode: str | None
    method: str
    chain_loss: float
    chain_loss_layers: Sequence[int] | None
    longest_cot: int
    count_first: bool
    tokenizer: PreTrainedTokenizerBase
    trusted: Collection[str]


@dataclass(frozen=True)
class ViewParts:
    """The arguments of a view; ``icot.data.views.StageView`` explains those not listed here.

    Attributes:
        seed: of the run.
        smoothing_lambda: of the offsets, if the method draws any.
        dial_share: of the rows that lose fewer tokens than the stage says, if the method has them.
    """

    eos_token_id: int
    seed: int
    side: Side
    keep_position_ids: KeepIds
    smoothing_lambda: float
    dial_share: float
    max_train_tokens: int | None
    packing: bool
    width_multiple: int
    with_chains: bool
    separators: int
    filler: Filler


@dataclass(frozen=True)
class CollapseParts:
    """The arguments of ``CollapseWatch``: ``share``, ``validations``, ``stop``."""

    share: float
    validations: int
    stop: bool


@dataclass(frozen=True)
class CallbackParts:
    """The arguments of a method's callbacks.

    Attributes:
        reset_optimizer: discard the moments at each removal.
        reset_warmup_steps: updates over which the learning rate then rises again.
        finish_steps: updates after everything is removed, at which training ends; None for no end.
        collapse: None if collapses are ignored.
    """

    reset_optimizer: bool
    reset_warmup_steps: int
    finish_steps: int | None
    collapse: CollapseParts | None


@dataclass(frozen=True)
class ValidationParts:
    """The arguments of a method's own validation.

    Attributes:
        folder: of the checkpoints.
        examples: of the validation split to use while training; None is all.
        batch_size: examples at once.
    """

    folder: Path
    examples: int | None
    batch_size: int


@dataclass(frozen=True)
class PredictorParts:
    """The arguments of a predictor.

    Attributes:
        model: with its weights, on its device.
        trusted: packages whose code another run may name.
        batch_size: examples decoded at once.
        decode: ``verify`` decodes only what one forward pass does not determine; ``always``
            decodes everything.
    """

    model: nn.Module
    trusted: Collection[str]
    batch_size: int = 500
    decode: Decode = "verify"


def _as_given(parts: SettingsParts, options: Options) -> Options:
    return options


def _the_model(parts: ModelParts, options: Options) -> nn.Module:
    return parts.model


class NoOptions(Section):
    """The options of a method that has none."""


@dataclass(frozen=True)
class Method:
    """What a method provides.

    Attributes:
        name: in checkpoints and summaries.
        build_module: the LightningModule.
        build_view: the view, which decides what is left of a batch.
        build_callbacks: its own callbacks, called after the run's, in this order.
        build_predictor: the predictor, which answers questions with the trained model.
        build_model: what is trained and kept, made of a causal LM; by default the LM itself.
        build_validation: callbacks that validate in place of the exact match of a predictor's
            answers, for a model that answers nothing; None is the exact match.
        options: the schema of the method's own keys; any other key is an error.
        settle: checks the options against the other settings and the configurations of the runs
            that they name, and replaces those that are None by what these runs have; the run keeps
            them. Raises ConfigError. By default the options stay as they are.
        ignores: groups of the configuration that the method does not use; setting one is an error.
        answers_at_once: it trains on what ``schedule=no_cot`` leaves, the question and the answer;
            another schedule is an error.
        has_fillers: its view puts the fillers of ``ViewParts`` in place of removed tokens; asking
            for them is an error otherwise.
        export_parts: the causal LMs within what is trained, by name, for a model that plain
            transformers cannot use; the first has the shape and the tokenizer of the whole.
        measures: the name, before ``accuracy``, of what validation measures where that is no result
            of the method: ``mind_reading_``.
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
    build_model: Callable[[ModelParts, Options], nn.Module] = _the_model
    build_validation: Callable[[ValidationParts, Options], list[Callback]] | None = None
    options: type[Section] = NoOptions
    settle: Callable[[SettingsParts, Options], Options] = _as_given
    ignores: tuple[str, ...] = ()
    answers_at_once: bool = False
    has_fillers: bool = False
    export_parts: Callable[[nn.Module], dict[str, nn.Module]] | None = None
    measures: str = ""
    title: str = ""
    is_removal: bool = False


def method_named(name: str) -> Method:
    """The record of a method.

    Args:
        name: of a folder of ``icot.methods``, whose ``record.METHOD`` it is, or the dotted name of
            a record anywhere, ``package.module.METHOD``.

    Raises:
        ConfigError: there is no such record.
    """
    dotted = name if "." in name else f"{__package__}.{name}.record.METHOD"
    module, _, attribute = dotted.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # the method's module imports a package that is not installed
        raise ConfigError([f"method={name}: there is no module {module}"]) from None
    except AttributeError:
        raise ConfigError([f"method={name}: {module} has no {attribute}"]) from None
    if not isinstance(found, Method):
        raise ConfigError(
            [f"method={name}: {dotted} is not a record, an object of icot.methods.base.Method"]
        )
    return found
