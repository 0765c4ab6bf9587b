"""The baselines of ICoT-KD's three trainings: library calls, and a loop over the rows of a batch.

The teacher reads the whole example with its output layer and keeps all hidden states, from which
each row's are picked. A block's input is replaced row by row. The emulator runs its last block and
its output layer, though nothing reads them; every loss is over all positions, in float32.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from icot.benchmarks.ceiling import Work
from icot.benchmarks.plain_loop import (
    IGNORED,
    PlainLoss,
    Rows,
    mean_loss,
    pad,
    remove_chain_tokens,
    separators_of,
)
from icot.errors import ConfigError
from icot.methods.icot_kd.emulator import Emulator
from icot.methods.icot_kd.mind_reading import MindReader
from icot.methods.icot_kd.states import Teacher
from icot.methods.icot_kd.training import CoupledLM, EmulatorModule, MindReadingLM, StudentLM
from icot.methods.icot_kd.view import PlanWithWhole
from icot.models.hidden_states import blocks_of
from icot.removal import CoTBatch
from icot.training.module import TrainingModule

# What is said of a training that the plain loop does not have.
COMPARED = "leave it out, as what=step times the published training,"


class PlainStudent(nn.Module):
    """A student with weights of its own.

    Args:
        student: whose weights it copies.
        model: a causal LM of its shape.
    """

    def __init__(self, student: MindReader, model: nn.Module) -> None:
        super().__init__()
        model.load_state_dict(student.model.state_dict())
        self.model: Any = model
        self.maps: Any = copy_of(student.maps)

    def loss(self, input_ids: Tensor, labels: Tensor, columns: list[int], states: Tensor) -> Tensor:
        """Mean cross-entropy of the answer, with ``states`` [B, L, D] in place."""

        def replace(layer: int, hidden: Tensor) -> Tensor:
            hidden = hidden.clone()
            for row, column in enumerate(columns):
                hidden[row, column] = self.maps[layer](states[row, layer])
            return hidden

        with replacing(self.model, replace):
            logits = self.model(input_ids=input_ids).logits.float()
        return mean_loss(logits, labels)


class PlainEmulator(nn.Module):
    """An emulator with weights of its own, and with the last block and the output layer.

    Args:
        emulator: whose weights it copies.
        model: a causal LM of its shape.
    """

    def __init__(self, emulator: Emulator, model: nn.Module) -> None:
        super().__init__()
        model.load_state_dict(emulator.trunk.state_dict(), strict=False)  # but for the last block
        self.model: Any = model
        names = ("maps", "components", "cell", "query", "key", "output")
        self.parts = nn.ModuleDict({name: copy_of(getattr(emulator, name)) for name in names})
        self.temperature = emulator.temperature

    def states(
        self, input_ids: Tensor, columns: list[int], gold: Tensor | None = None
    ) -> list[Tensor]:
        """The states [B, L, D] of questions [B, T], and the scores [B, L, M] of components.

        ``gold`` [B, L] are the components to use; None mixes them.
        """
        parts: Any = self.parts
        components = parts.components.weight
        count = len(columns)
        found: list[list[Tensor]] = [[] for _ in range(count)]
        scores: list[list[Tensor]] = [[] for _ in range(count)]
        keys: list[list[Tensor]] = [[] for _ in range(count)]
        memory: list[Any] = [None] * count
        context: list[Tensor | None] = [None] * count

        def replace(layer: int, hidden: Tensor) -> Tensor:
            hidden = hidden.clone()
            for row, column in enumerate(columns):
                z = hidden[row, column].clone()  # which is then written over
                scores[row].append(components @ z)
                if gold is None:
                    mixed = (scores[row][-1] / self.temperature).softmax(0) @ components
                else:
                    mixed = components[gold[row, layer]]
                state = parts.maps[layer](torch.cat([z, mixed]))
                found[row].append(state)
                before = context[row]
                inner = state if before is None else state + before
                memory[row] = parts.cell(inner[None], memory[row])
                out = memory[row][0][0]
                attended = torch.zeros_like(out)
                if keys[row]:
                    seen = torch.stack(keys[row])
                    attended = (seen @ parts.query(out)).softmax(0) @ seen
                context[row] = attended
                keys[row].append(parts.key(out))
                hidden[row, column] = parts.output(torch.cat([out, attended]))
            return hidden

        with replacing(self.model, replace):
            self.model(input_ids=input_ids)
        return [torch.stack([torch.stack(row) for row in part]) for part in (found, scores)]


def diagonal(ids: Tensor, eos_token_id: int, teacher: Teacher, offset: int = 0) -> list[int]:
    """The columns of a teacher's states in an example [T], or some columns further on."""
    separators = separators_of(ids, eos_token_id)
    first, second = int(separators[0]), int(separators[1])
    delta = teacher.delta
    step = (second - first) / (teacher.depth - 1) if delta == "dynamic" else delta
    columns = [min(second, round(first + step * layer)) for layer in range(teacher.depth)]
    return [min(second, column + offset) for column in columns]


@torch.no_grad()
def teacher_states(teacher: Teacher, input_ids: Tensor, eos_token_id: int) -> Tensor:
    """A teacher's states [B, L, D] on the diagonal, for whole examples [B, T]."""
    model: Any = teacher.model
    hidden = model(input_ids=input_ids, output_hidden_states=True).hidden_states[:-1]
    rows = []
    for row, ids in enumerate(input_ids):
        columns = diagonal(ids, eos_token_id, teacher)
        rows.append(torch.stack([h[row, c] for h, c in zip(hidden, columns, strict=True)]))
    states = torch.stack(rows)
    centred = states - states.mean(-1, keepdim=True)
    return centred / (states.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()


class PlainDistillation(PlainLoss):
    """One of the three trainings, with weights of its own.

    Args:
        eos_token_id: the separator.
        teacher: whose states are read or learned; None while coupling.
        student, emulator: what is trained.
        component_weight, component_offset: as of ``EmulatorModule``.
    """

    def __init__(
        self,
        eos_token_id: int,
        teacher: Teacher | None = None,
        student: PlainStudent | None = None,
        emulator: PlainEmulator | None = None,
        component_weight: float = 0.0,
        component_offset: int = 0,
    ) -> None:
        super().__init__()
        self.eos_token_id = eos_token_id
        self.component_weight, self.component_offset = component_weight, component_offset
        self.student, self.emulator = student, emulator
        self._teacher = [teacher]  # in a list, so that it is not trained

    @classmethod
    def of(
        cls, module: StudentLM | EmulatorModule, make_model: Callable[[], nn.Module], eos: int
    ) -> "PlainDistillation":
        """The plain form of one of our trainings, with the same weights.

        Args:
            module: ours.
            make_model: makes a causal LM of the run's shape.
            eos: the separator.

        Raises:
            ConfigError: the published training has no such loss or states.
        """
        teacher = student = emulator = None
        components: dict[str, Any] = {}
        if isinstance(module, MindReadingLM | EmulatorModule):
            teacher = module.teacher
            if teacher.subset != "diagonal":
                raise ConfigError(
                    [f"method.subset={teacher.subset}: {COMPARED} of the diagonal's states"]
                )
        if isinstance(module, StudentLM):
            student = PlainStudent(module.student, make_model())
        if isinstance(module, CoupledLM):
            if module.distance_weight or module.component_weight:
                raise ConfigError([f"method.teacher: {COMPARED} on the answer alone"])
            emulator = PlainEmulator(module.coupled.emulator, make_model())
        if isinstance(module, EmulatorModule):
            emulator = PlainEmulator(module.model, make_model())
            components = {
                "component_weight": module.component_weight,
                "component_offset": module.component_offset,
            }
        return cls(eos, teacher, student, emulator, **components)

    def loss(self, rows: Rows) -> Tensor:
        """The loss of whole examples."""
        device = next(self.parameters()).device
        input_ids, labels = (part.to(device) for part in pad(rows, self.eos_token_id))
        columns = [int(separators_of(ids, self.eos_token_id)[0]) for ids in input_ids]
        states = gold = None
        if (teacher := self._teacher[0]) is not None:
            states = teacher_states(teacher, input_ids, self.eos_token_id)
            if self.component_weight:
                told = [
                    diagonal(ids, self.eos_token_id, teacher, self.component_offset)
                    for ids in input_ids
                ]
                gold = input_ids.gather(1, torch.tensor(told, device=device))
        if self.emulator is not None:
            question = input_ids[:, : max(columns) + 1]
            emulated, scores = self.emulator.states(question, columns, gold)
            if states is not None:
                loss = 0.5 * (emulated - states).square().sum((1, 2)).mean()
                if gold is not None:
                    missed = nn.functional.cross_entropy(scores.flatten(0, 1), gold.flatten())
                    loss = loss + self.component_weight * missed * gold.shape[1]
                return loss
            states = emulated
        assert self.student is not None
        assert states is not None
        short = remove_chain_tokens(input_ids, labels, input_ids.shape[1], self.eos_token_id)
        return self.student.loss(*short, columns, states)


def work_of(module: TrainingModule, batch: CoTBatch) -> list[Work]:
    """The products of one of our updates, by the batch that it had."""
    rows, columns = batch.input_ids.shape
    supervised = int((batch.labels[:, 1:] != IGNORED).sum())
    plan = batch.plan
    if not isinstance(plan, PlanWithWhole):
        return [Work(module.model, rows * columns, supervised)]
    assert plan.whole is not None
    examples = len(batch.lengths)
    parts = []
    if isinstance(module, MindReadingLM | EmulatorModule):
        tokens = examples * (int(plan.whole.cot_end.max()) + 1)
        parts.append(Work(blocks_of(module.teacher.model), tokens, backward=False))
    if isinstance(module, StudentLM):
        parts.append(Work(module.student.model, rows * columns, supervised))
        parts.append(Work(module.student.maps, examples))
    emulator = module.coupled.emulator if isinstance(module, CoupledLM) else None
    if isinstance(module, EmulatorModule):
        emulator = module.model
    if emulator is not None:
        parts.append(Work(blocks_of(emulator.trunk), examples * plan.question))
        parts.append(Work(emulator.maps, examples))
    return parts


def copy_of(module: nn.Module) -> nn.Module:
    """A copy whose weights may be trained."""
    return copy.deepcopy(module).requires_grad_(True)


@contextmanager
def replacing(model: nn.Module, replace: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """While open, each block's input passes through ``replace``."""

    def hook(layer: int) -> Any:
        return lambda block, args: (replace(layer, args[0]), *args[1:])

    hooks = [
        block.register_forward_pre_hook(hook(layer)) for layer, block in enumerate(blocks_of(model))
    ]
    try:
        yield
    finally:
        for registered in hooks:
            registered.remove()
