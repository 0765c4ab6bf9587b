"""A loss on the chain of thought that the model does not write: a head predicts it while training.

The head reads the hidden states that one or several middle layers have of the question, and
predicts all tokens of the whole chain at once, also those that are removed. So the question's
states come to hold what the chain says, and the answer can be computed from them. The trained model
does not contain the head.

    x1 x2 x3 <eos> #### y1 <eos>          the batch, with its chain removed
     \\  |  |  /
      attention  <-  one query for each of z1 z2 z3 z4

(Latent states supervised by the tokens of a chain: arXiv 2606.31779. A running sum, read from
hidden states, breaks the plateau of a product's middle digits: arXiv 2510.00184.)
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from icot.errors import ConfigError
from icot.models.forward import LARGE_VOCABULARY, SupervisedTokens, output_loss
from icot.models.introspection import config_of
from icot.removal import IGNORED, CoTBatch
from icot.training.causal_lm import CausalLM

CHAIN_LOSS = "train/chain_loss"
HEADS = (8, 4, 2, 1)  # of attention: the most that divide the width


class ChainHead(nn.Module):
    """From hidden states of a question to one for each token of its chain.

    Args:
        width: of the hidden states.
        longest: tokens of the longest chain.
        layers: how many layers it reads.
        vocabulary: tokens; a large one has no output layer here, the model's takes its place.

    Attributes:
        output: the output layer, None for a large vocabulary.
        has_blocks: False, so Muon, which is for the matrices of blocks, leaves the head to AdamW.
    """

    has_blocks: ClassVar[bool] = False

    def __init__(self, width: int, longest: int, layers: int, vocabulary: int) -> None:
        super().__init__()
        self.queries = nn.Embedding(longest, width)
        self.before = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.after = nn.LayerNorm(width)
        heads = next(n for n in HEADS if width % n == 0)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        small = vocabulary < LARGE_VOCABULARY
        self.output = nn.Linear(width, vocabulary, bias=False) if small else None

    def forward(self, hidden: Sequence[Tensor], question: Tensor, length: int) -> Tensor:
        """Hidden states [B, L, D] of the first ``length`` tokens of each chain.

        A token attends to the states of all layers at once, so it reads each layer as it needs.

        Args:
            hidden: [B, Q, D] of the questions for each layer, Q tokens the longest.
            question: [B, Q] where a question and its separator are.
            length: L.
        """
        queries = self.queries.weight[:length].expand(len(question), -1, -1)
        read = torch.cat([norm(h) for norm, h in zip(self.before, hidden, strict=True)], dim=1)
        ignored = ~question.repeat(1, len(hidden))
        found, _ = self.attention(queries, read, read, ignored, need_weights=False)
        states: Tensor = self.after(found + queries)
        return states


class ChainLossLM(CausalLM):
    """A causal LM with a further loss on its chains; the arguments are those of ``CausalLM``, and

    Args:
        weight: of a chain: of the mean loss of its tokens, beside the mean loss of the supervised
            tokens of its example.
        layers: after how many layers the head reads the hidden states, one number or several; None
            is half of them.
        longest_cot: tokens of the longest chain.

    Raises:
        ConfigError: the model does not have so many layers, or its output layer another width.
    """

    def __init__(
        self,
        *arguments: Any,
        weight: float,
        layers: Sequence[int] | None,
        longest_cot: int,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        config = config_of(self.model)
        depth, width = config.num_hidden_layers, config.hidden_size
        self.weight = weight
        self.hidden_layers = (-(-depth // 2),) if layers is None else tuple(layers)
        if max(self.hidden_layers) > depth:
            raise ConfigError(
                [f"schedule.chain_loss_layers={layers}: the model has only {depth} layers"]
            )
        vocabulary, reads = self._models_output.weight.shape
        if reads != width:
            raise ConfigError(
                ["schedule.chain_loss: this model's output layer does not read its hidden states"]
            )
        self.chain_head = ChainHead(width, longest_cot, len(self.hidden_layers), vocabulary)

    @property
    def _models_output(self) -> nn.Linear:
        output: nn.Linear = self.model.get_output_embeddings()  # type: ignore[operator]
        return output

    def on_fit_start(self) -> None:
        """Take the model apart.

        Raises:
            ConfigError: it does not come apart.
        """
        super().on_fit_start()
        if self._parts is None:
            raise ConfigError(
                [
                    "schedule.chain_loss: this model's output layer cannot be used alone (it has a "
                    "bias or adapters, or its logits are scaled); set schedule.chain_loss=0"
                ]
            )

    @property
    def trained(self) -> nn.Module:
        """The model and the head."""
        return nn.ModuleList([self.model, self.chain_head])

    def further_loss(self, batch: CoTBatch, found: SupervisedTokens) -> Tensor:
        """The weighted losses of the chains, summed.

        A chain of k tokens in an example of n supervised ones counts each of its tokens n / k
        times, so the sum fits the count of supervised tokens by which it is divided.
        """
        assert batch.plan is not None
        assert batch.plan.chains is not None
        chains = batch.plan.chains
        chain, longest = chains.tokens, chains.longest_question
        question = torch.arange(longest, device=chain.device) < chains.questions[:, None]
        hidden = [of_layer[:, :longest] for of_layer in found.hidden]
        states = self.chain_head(hidden, question, chain.shape[1])
        zeros = torch.zeros(len(chain), device=chain.device)
        of_row = found.places[:, 0]
        supervised = zeros.index_add(0, of_row, torch.ones_like(of_row, dtype=zeros.dtype))
        there = chain != IGNORED  # to look for these places would synchronise a GPU
        counts = (there * (supervised / there.sum(1).clamp(min=1))[:, None]).flatten()
        output = self.chain_head.output or self._models_output
        loss, _ = output_loss(output, states.flatten(0, 1), chain.clamp(min=0).flatten(), counts)
        self.log(CHAIN_LOSS, loss.detach() / counts.sum().clamp(min=1), batch_size=len(chain))
        return self.weight * loss
