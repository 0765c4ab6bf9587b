"""The three methods of ICoT-KD, each an ordinary run: student, emulator, and both coupled.

python -m icot.train schedule=explicit                                    the teacher
python -m icot.train method=mind_reading method.teacher=TEACHER           (a)
python -m icot.train method=emulator method.teacher=TEACHER               (b)
python -m icot.train method=coupled method.student=A method.emulator=B    (c)
"""

import copy
from collections.abc import Collection
from functools import partial
from typing import Any, Literal

from lightning import Callback
from pydantic import Field, ValidationInfo, field_validator
from torch import nn

from icot.config.checks import validate
from icot.config.section import Section
from icot.data.views import View
from icot.errors import ConfigError
from icot.inference.predictor import Predictor
from icot.methods.base import (
    CallbackParts,
    Method,
    ModelParts,
    ModuleParts,
    PredictorParts,
    SettingsParts,
    ValidationParts,
    ViewParts,
)
from icot.methods.icot_kd.coupled import Coupled
from icot.methods.icot_kd.emulator import Emulator
from icot.methods.icot_kd.mind_reading import MindReader
from icot.methods.icot_kd.predictors import CoupledPredictor, MindReadingPredictor, NoAnswers
from icot.methods.icot_kd.runs import (
    config_of_run,
    mistakes_of_depth,
    mistakes_of_run,
    restore,
)
from icot.methods.icot_kd.states import Subset, Teacher
from icot.methods.icot_kd.training import CoupledLM, EmulatorModule, MindReadingLM
from icot.methods.icot_kd.validation import DistanceValidation
from icot.methods.icot_kd.view import WholeView
from icot.training.module import TrainingModule

PAPER = "[ICoT-KD](https://arxiv.org/abs/2311.01460)"
OF_THE_VIEW = (
    *("eos_token_id", "side", "keep_position_ids", "max_train_tokens", "packing", "separators"),
)
OF_THE_MODULE = ("model", "optimizer", "warmup_steps", "decay_steps", "method")
# Of an emulator's options, those that coupling takes over.
OF_THE_EMULATOR = ("mixture_size", "temperature", "delta", "subset", "component_offset")
Stage = Literal["final", "best"]


class TeacherOptions(Section):
    """What is read from a teacher."""

    teacher: str
    """The run directory of the teacher, a run with schedule=explicit."""
    teacher_stage: Stage = "final"
    """The teacher's weights to use."""
    delta: Literal["dynamic"] | int = "dynamic"
    """Δ, columns from one layer's state to the next; dynamic reaches the second separator."""
    subset: Subset = "diagonal"
    """Which states: along the diagonal, of one column, or of one layer."""
    init: Literal["model", "teacher"] = "model"
    """The weights to start from: the configured model's, or the teacher's."""


class EmulatorOptions(TeacherOptions):
    """The keys of ``method=emulator``."""

    mixture_size: int = Field(1, ge=1)
    """M, the components that are mixed; 1 where the chain is a function of the question."""
    temperature: float = Field(0.05, gt=0)
    """τ of the mixture."""
    component_weight: float = Field(0.0, ge=0)
    """Weight of the loss that tells the component, the chain's token at a state's column; the
    mixture then needs as many components as the vocabulary has tokens."""
    component_offset: int = 0
    """Columns from a state to its component's token."""


class CoupledOptions(Section):
    """The keys of ``method=coupled``."""

    teacher: str | None = None
    """The run directory of the teacher, for further losses of the emulator; null has none."""
    teacher_stage: Stage = "final"
    """The teacher's weights to use."""
    delta: Literal["dynamic"] | int | None = None
    """Δ of the teacher's states; null is the emulator's."""
    subset: Subset | None = None
    """Which of the teacher's states; null are the emulator's."""
    distance_weight: float = Field(0.0, ge=0)
    """Weight of the distance to the teacher's states, a loss beside the answer's."""
    component_weight: float = Field(0.0, ge=0)
    """Weight of the loss that tells the component, beside the answer's."""
    component_offset: int | None = None
    """Columns from a state to its component's token; null is the emulator's."""

    student: str
    """The run directory of the student, a run with method=mind_reading."""
    emulator: str
    """The run directory of the emulator, a run with method=emulator."""
    student_stage: Stage = "best"
    """The student's weights to start from."""
    emulator_stage: Stage = "best"
    """The emulator's weights to start from."""
    fix_emulator: bool = False
    """Train the student alone."""
    mixture_size: int | None = Field(None, ge=1)
    """M, the emulator's; no other is possible."""
    temperature: float | None = Field(None, gt=0)
    """τ of the mixture; null is the emulator's."""

    @field_validator("distance_weight", "component_weight")
    @classmethod
    def _needs_the_teacher(cls, weight: float, info: ValidationInfo) -> float:
        if weight and info.data.get("teacher") is None:
            raise ValueError("needs the states of the teacher: set method.teacher")
        return weight


def build_view(parts: ViewParts, options: Any) -> View:
    """Everything is removed; the whole examples stay at hand."""
    return WholeView(**{name: getattr(parts, name) for name in OF_THE_VIEW})


def build_callbacks(parts: CallbackParts, options: Any) -> list[Callback]:
    """None: there is one stage."""
    return []


def _common(parts: ModuleParts) -> dict[str, Any]:
    return {name: getattr(parts, name) for name in OF_THE_MODULE}


def _teacher(
    options: TeacherOptions, trusted: Collection[str], parts: ModuleParts | None = None
) -> Teacher:
    model = restore("teacher", options.teacher, options.teacher_stage, parts=parts, trusted=trusted)
    return Teacher(model, options.delta, options.subset)


def _settle_student(parts: SettingsParts, options: TeacherOptions) -> TeacherOptions:
    _raise(_mistakes_of_teacher(parts, options.teacher))
    return options


def _settle_emulator(parts: SettingsParts, options: EmulatorOptions) -> EmulatorOptions:
    mistakes = _mistakes_of_teacher(parts, options.teacher)
    if parts.model.compile is not None:
        mistakes.append("model.compile: an emulator is trained without; leave it out")
    _raise(mistakes)  # before a tokenizer is loaded, which may not be here
    if options.component_weight and options.mixture_size < (tokens := len(parts.tokenizer())):
        raise ConfigError(
            [
                "method.component_weight needs a component for each token: set "
                f"method.mixture_size={tokens}, the tokenizer's vocabulary"
            ]
        )
    return options


def _settle_coupled(parts: SettingsParts, options: CoupledOptions) -> CoupledOptions:
    mistakes = mistakes_of_run("student", options.student, "mind_reading", parts)
    mistakes += mistakes_of_run("emulator", options.emulator, "emulator", parts)
    if options.teacher is not None:
        mistakes += _mistakes_of_teacher(parts, options.teacher)
        further = options.distance_weight or options.component_weight
        if options.fix_emulator or not further:
            mistakes.append(
                "method.teacher has no effect: it is for method.distance_weight and "
                "method.component_weight, while the emulator is trained"
            )
    _raise(mistakes)
    emulator = config_of_run("emulator", options.emulator, parts)
    try:
        of_emulator = validate(emulator.method.arguments(), EmulatorOptions)
    except ConfigError as error:
        named = [f"method.emulator={options.emulator}: {m}" for m in error.mistakes]
        raise ConfigError(named) from None
    size = of_emulator.mixture_size
    if options.mixture_size not in (None, size):
        raise ConfigError(
            [
                f"method.mixture_size={options.mixture_size}: the emulator {options.emulator} has "
                f"{size}; leave it out"
            ]
        )
    if options.component_weight and size < (tokens := len(parts.tokenizer())):
        raise ConfigError(
            [
                "method.component_weight needs a component for each token, "
                f"method.mixture_size={tokens}, and the emulator {options.emulator} has {size}"
            ]
        )
    found = {n: getattr(of_emulator, n) for n in OF_THE_EMULATOR if getattr(options, n) is None}
    return options.model_copy(update=found)


def _mistakes_of_teacher(parts: SettingsParts, teacher: str) -> list[str]:
    return [*mistakes_of_depth(parts.model), *mistakes_of_run("teacher", teacher, "", parts)]


def _raise(mistakes: list[str]) -> None:
    if mistakes:
        raise ConfigError(mistakes)


def _student(parts: ModelParts, options: Any) -> MindReader:
    return MindReader(parts.model, parts.eos_token_id)


def _start_from(teacher: Teacher, model: nn.Module) -> None:
    """Give a causal LM, perhaps without its last block, the teacher's weights."""
    own = model.state_dict()
    model.load_state_dict({k: v for k, v in teacher.model.state_dict().items() if k in own})


def _mind_reading_module(parts: ModuleParts, options: TeacherOptions) -> TrainingModule:
    teacher = _teacher(options, parts.trusted, parts)
    if options.init == "teacher":
        assert isinstance(parts.model, MindReader)
        _start_from(teacher, parts.model.model)
    compiled = {"compile_mode": parts.compile_mode}
    return MindReadingLM(**_common(parts), **compiled, teacher=teacher)


def _mind_reading_predictor(parts: PredictorParts, options: TeacherOptions) -> Predictor:
    model = parts.model
    assert isinstance(model, MindReader)
    if model.teacher is None:
        model.teacher = _teacher(options, parts.trusted)
    return MindReadingPredictor(model, model.teacher, parts.batch_size, parts.decode)


def _emulator(parts: ModelParts, options: EmulatorOptions | CoupledOptions) -> Emulator:
    assert options.mixture_size is not None
    assert options.temperature is not None
    return Emulator(parts.model, options.mixture_size, options.temperature)


def _emulator_module(parts: ModuleParts, options: EmulatorOptions) -> TrainingModule:
    teacher = _teacher(options, parts.trusted, parts)
    if options.init == "teacher":
        assert isinstance(parts.model, Emulator)
        _start_from(teacher, parts.model.trunk)
    return EmulatorModule(
        **_common(parts),
        teacher=teacher,
        component_weight=options.component_weight,
        component_offset=options.component_offset,
    )


def _emulator_validation(parts: ValidationParts, options: EmulatorOptions) -> list[Callback]:
    return [DistanceValidation(**vars(parts))]


def _no_predictor(parts: PredictorParts, options: EmulatorOptions) -> Predictor:
    refusing: Any = NoAnswers()
    predictor: Predictor = refusing
    return predictor


def _both(parts: ModelParts, options: CoupledOptions) -> Coupled:
    of_student = ModelParts(copy.deepcopy(parts.model), parts.eos_token_id)
    return Coupled(_student(of_student, options), _emulator(parts, options))


def _coupled_module(parts: ModuleParts, options: CoupledOptions) -> TrainingModule:
    model = parts.model
    assert isinstance(model, Coupled)

    def make_student(model: nn.Module, *, eos_token_id: int) -> nn.Module:
        return _student(ModelParts(model, eos_token_id), options)

    def make_emulator(model: nn.Module, *, eos_token_id: int) -> nn.Module:
        return _emulator(ModelParts(model, eos_token_id), options)

    load = partial(restore, parts=parts, trusted=parts.trusted)
    student = load("student", options.student, options.student_stage, make=make_student)
    emulator = load("emulator", options.emulator, options.emulator_stage, make=make_emulator)
    model.student.load_state_dict(student.state_dict())
    model.emulator.load_state_dict(emulator.state_dict())
    compiled = {"compile_mode": parts.compile_mode}
    assert options.delta is not None
    assert options.subset is not None
    assert options.component_offset is not None
    teacher = None
    if options.teacher is not None:
        model_of_teacher = load("teacher", options.teacher, options.teacher_stage)
        teacher = Teacher(model_of_teacher, options.delta, options.subset)
    return CoupledLM(
        **_common(parts),
        **compiled,
        fix_emulator=options.fix_emulator,
        teacher=teacher,
        distance_weight=options.distance_weight,
        component_weight=options.component_weight,
        component_offset=options.component_offset,
    )


def _coupled_predictor(parts: PredictorParts, options: CoupledOptions) -> Predictor:
    assert isinstance(parts.model, Coupled)
    return CoupledPredictor(parts.model, parts.batch_size, parts.decode)


def _parts_of_both(model: nn.Module) -> dict[str, nn.Module]:
    """The two causal LMs; the emulator's is without its last block."""
    assert isinstance(model, Coupled)
    return {"student": model.student.model, "emulator": model.emulator.trunk}


MIND_READING = Method(
    "mind_reading",
    _mind_reading_module,
    build_view,
    build_callbacks,
    _mind_reading_predictor,
    options=TeacherOptions,
    settle=_settle_student,
    build_model=_student,
    answers_at_once=True,
    measures="mind_reading_",
    title=f"mind reading, the student of {PAPER}, which needs a teacher that reads the chain",
)
EMULATOR = Method(
    "emulator",
    _emulator_module,
    build_view,
    build_callbacks,
    _no_predictor,
    options=EmulatorOptions,
    settle=_settle_emulator,
    build_model=_emulator,
    build_validation=_emulator_validation,
    answers_at_once=True,
    title=f"the thought emulator of {PAPER}",
)
COUPLED = Method(
    "coupled",
    _coupled_module,
    build_view,
    build_callbacks,
    _coupled_predictor,
    options=CoupledOptions,
    settle=_settle_coupled,
    build_model=_both,
    answers_at_once=True,
    export_parts=_parts_of_both,
    title=f"implicit chain of thought by knowledge distillation ({PAPER})",
)
