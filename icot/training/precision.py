"""Training with weights in bf16, for batches that hold whole numbers."""

from typing import Any

from lightning.pytorch.plugins.precision import HalfPrecision


class HalfPrecisionWeights(HalfPrecision):
    """Lightning's, without its search of each batch for floats: a ``CoTBatch`` has none.

    (That search refuses frozen dataclasses.)
    """

    def convert_input(self, data: Any) -> Any:
        """The batch as it is."""
        return data
