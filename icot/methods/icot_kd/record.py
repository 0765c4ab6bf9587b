"""The three methods of ICoT-KD, each an ordinary run: student, emulator, and both coupled.

python -m icot.train schedule=explicit                                    the teacher
python -m icot.train method=mind_reading method.teacher=TEACHER           (a)
python -m icot.train method=emulator method.teacher=TEACHER               (b)
python -m icot.train method=coupled method.student=A method.emulator=B    (c)
"""

import copy
from functools import partial
from typing import Any, Literal

from lightning import Callback
from pydantic import Field, ValidationInfo, field_validator
from torch import nn

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
    ValidationParts,
    ViewParts,
)
from icot.methods.icot_kd.coupled import Coupled
from icot.methods.icot_kd.emulator import Emulator
from icot.methods.icot_kd.mind_reading import MindReader
from icot.methods.icot_kd.predictors import CoupledPredictor, MindReadingPredictor, NoAnswers
from icot.methods.icot_kd.runs import restore
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
    delta: Literal["dynamic"] | int = "dynamic"
    """The emulator's."""
    subset: Subset = "diagonal"
    """The emulator's."""
    distance_weight: float = Field(0.0, ge=0)
    """Weight of the distance to the teacher's states, a loss beside the answer's."""
    component_weight: float = Field(0.0, ge=0)
    """Weight of the loss that tells the component, beside the answer's."""
    component_offset: int = 0
    """Columns from a state to its component's token."""

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
    mixture_size: int = Field(1, ge=1)
    """The emulator's."""
    temperature: float = Field(0.05, gt=0)
    """The emulator's."""

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


def _teacher(options: TeacherOptions, parts: ModuleParts | None = None) -> Teacher:
    model = restore("teacher", options.teacher, options.teacher_stage, parts=parts)
    return Teacher(model, options.delta, options.subset)


def _check_components(options: EmulatorOptions | CoupledOptions, parts: ModuleParts) -> None:
    """Check that each token that may be right has a component.

    Raises:
        ConfigError: there are fewer components.
    """
    if options.component_weight and options.mixture_size < len(parts.tokenizer):
        raise ConfigError(
            [
                f"method.component_weight needs a component for each token: set "
                f"method.mixture_size={len(parts.tokenizer)}, the tokenizer's vocabulary"
            ]
        )


def _student(parts: ModelParts, options: Any) -> MindReader:
    return MindReader(parts.model, parts.eos_token_id)


def _start_from(teacher: Teacher, model: nn.Module) -> None:
    """Give a causal LM, perhaps without its last block, the teacher's weights."""
    own = model.state_dict()
    model.load_state_dict({k: v for k, v in teacher.model.state_dict().items() if k in own})


def _mind_reading_module(parts: ModuleParts, options: TeacherOptions) -> TrainingModule:
    teacher = _teacher(options, parts)
    if options.init == "teacher":
        assert isinstance(parts.model, MindReader)
        _start_from(teacher, parts.model.model)
    compiled = {"compile_mode": parts.compile_mode}
    return MindReadingLM(**_common(parts), **compiled, teacher=teacher)


def _mind_reading_predictor(parts: PredictorParts, options: TeacherOptions) -> Predictor:
    model = parts.model
    assert isinstance(model, MindReader)
    if model.teacher is None:
        model.teacher = _teacher(options)
    return MindReadingPredictor(model, model.teacher, parts.batch_size, parts.decode)


def _emulator(parts: ModelParts, options: EmulatorOptions | CoupledOptions) -> Emulator:
    return Emulator(parts.model, options.mixture_size, options.temperature)


def _emulator_module(parts: ModuleParts, options: EmulatorOptions) -> TrainingModule:
    if parts.compile_mode is not None:
        raise ConfigError(["model.compile: an emulator is trained without; leave it out"])
    _check_components(options, parts)
    teacher = _teacher(options, parts)
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
    _check_components(options, parts)

    def make_student(model: nn.Module, *, eos_token_id: int) -> nn.Module:
        return _student(ModelParts(model, eos_token_id), options)

    def make_emulator(model: nn.Module, *, eos_token_id: int) -> nn.Module:
        return _emulator(ModelParts(model, eos_token_id), options)

    load = partial(restore, parts=parts)
    student = load(
        "student", options.student, options.student_stage, make=make_student, method="mind_reading"
    )
    emulator = load(
        "emulator", options.emulator, options.emulator_stage, make=make_emulator, method="emulator"
    )
    model.student.load_state_dict(student.state_dict())
    model.emulator.load_state_dict(emulator.state_dict())
    compiled = {"compile_mode": parts.compile_mode}
    teacher = None
    if options.teacher is not None:
        if options.fix_emulator or not (options.distance_weight or options.component_weight):
            raise ConfigError(
                [
                    "method.teacher has no effect: it is for method.distance_weight and "
                    "method.component_weight, while the emulator is trained"
                ]
            )
        model_of_teacher = restore("teacher", options.teacher, options.teacher_stage, parts=parts)
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
    build_model=_both,
    answers_at_once=True,
    export_parts=_parts_of_both,
    title=f"implicit chain of thought by knowledge distillation ({PAPER})",
)
