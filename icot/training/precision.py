"""Training with bf16 weights."""

from typing import Any

from lightning.pytorch.plugins.precision import HalfPrecision


class HalfPrecisionWeights(HalfPrecision):
    """Lightning's plugin, without the conversion of each batch: a ``CoTBatch`` has no floats.

    (The conversion fails for frozen dataclasses.)
    """

    def convert_input(self, data: Any) -> Any:
        """The batch as it is."""
        return data
