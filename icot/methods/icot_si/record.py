"""What stepwise internalization provides: smoothing, resets, the end of training, a watch."""

from lightning import Callback

from icot.data.views import View
from icot.inference.predictor import GreedyPredictor, Predictor
from icot.methods.base import (
    CallbackParts,
    Method,
    ModuleParts,
    Options,
    PredictorParts,
    ViewParts,
)
from icot.methods.icot_si.chain_loss import ChainLossLM
from icot.methods.icot_si.collapse_watch import CollapseWatch
from icot.methods.icot_si.finish import Finish
from icot.methods.icot_si.optimizer_reset import OptimizerReset
from icot.methods.icot_si.view import SmoothedView
from icot.training.causal_lm import CausalLM
from icot.training.module import TrainingModule


def build_module(parts: ModuleParts, options: Options) -> TrainingModule:
    """A causal LM, perhaps with a loss on its chains."""
    common = dict(vars(parts))
    del common["tokenizer"], common["trusted"]
    weight, layers, longest = (
        common.pop(name) for name in ("chain_loss", "chain_loss_layers", "longest_cot")
    )
    if not weight:
        return CausalLM(**common)
    return ChainLossLM(**common, weight=weight, layers=layers, longest_cot=longest)


def build_view(parts: ViewParts, options: Options) -> View:
    """Removal by stage, with smoothing offsets."""
    return SmoothedView(**vars(parts))


def build_callbacks(parts: CallbackParts, options: Options) -> list[Callback]:
    """The end of training, the reset and the collapse watch, if the configuration has them."""
    callbacks: list[Callback] = []
    if parts.finish_steps is not None:
        callbacks.append(Finish(parts.finish_steps))
    if parts.reset_optimizer:
        callbacks.append(OptimizerReset(parts.reset_warmup_steps))
    if parts.collapse is not None:
        callbacks.append(CollapseWatch(**vars(parts.collapse)))
    return callbacks


def build_predictor(parts: PredictorParts, options: Options) -> Predictor:
    """Greedy decoding of the outputs that verification does not determine."""
    return GreedyPredictor(parts.model, parts.batch_size, parts.decode)


METHOD = Method(
    "icot_si",
    build_module,
    build_view,
    build_callbacks,
    build_predictor,
    has_fillers=True,
    title="stepwise internalization ([ICoT-SI](https://arxiv.org/abs/2405.14838))",
    is_removal=True,
)
