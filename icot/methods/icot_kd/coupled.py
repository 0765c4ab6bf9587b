"""Emulator and student as one: the student answers from the emulated states.

x1 x2 <eos>  --emulator-->  f_0 ... f_{L-1}  --maps-->  v_0 ... v_{L-1}
x1 x2 <eos> #### y          the student, with v_l before block l in place of its column f
"""

from typing import Any

from torch import Tensor, nn

from icot.methods.icot_kd.emulator import Emulator
from icot.methods.icot_kd.mind_reading import MindReader


class Coupled(nn.Module):
    """A student that reads an emulator's states.

    Args:
        student, emulator: of the same depth and width.

    Attributes:
        config: the student's.
    """

    def __init__(self, student: MindReader, emulator: Emulator) -> None:
        super().__init__()
        self.config = student.config
        self.student, self.emulator = student, emulator
        student.source = self._emulate

    def forward(self, **inputs: Any) -> Any:
        """The student's output; its first pass over prompts begins with the emulator's."""
        return self.student(**inputs)

    def _emulate(self, input_ids: Tensor, columns: Tensor, inputs: dict[str, Any]) -> Tensor:
        width = int(columns.max()) + 1
        further = {
            name: inputs[name][:, :width]
            for name in ("attention_mask", "position_ids")
            if inputs.get(name) is not None
        }
        states: Tensor = self.emulator(input_ids[:, :width], columns, **further).states
        return states
