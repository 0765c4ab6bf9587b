"""The run's clock: what it counts, what it keeps, and the dropout that follows from it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from icot.removal import CoTBatch, Plan
from icot.training.callbacks.clock import Clock
from icot.training.datamodule import CoTDataModule


class Data(CoTDataModule):
    def __init__(self) -> None:
        self.batches = 0


def trainer_of(rank: int = 0) -> Any:
    return SimpleNamespace(
        global_rank=rank, is_global_zero=rank == 0, world_size=1, datamodule=Data()
    )


def batch_of(**plan: Any) -> CoTBatch:
    one = torch.ones(1, dtype=torch.long)
    return CoTBatch(one[None], one[None], one, one, one, plan=Plan(**plan))


CPU: Any = SimpleNamespace(device=torch.device("cpu"))


def test_it_counts_and_tells_the_data_module():
    clock, trainer = Clock(seed=3), trainer_of()
    for n, plan in enumerate([{"tokens": 5, "dropped": 1}, {"tokens": 0, "skipped": True}]):
        clock.on_train_batch_end(trainer, CPU, None, batch_of(**plan), n)
    assert (clock.batches, clock.tokens, clock.dropped) == (2, 5, 1)
    assert trainer.datamodule.batches == 2
    assert clock.header_part(trainer) == {"batches": 2}


@pytest.mark.parametrize("rank", [0, 1])
def test_what_all_devices_have_counted_goes_on_with_the_first_of_them(rank):
    clock, trainer = Clock(seed=3), trainer_of(rank)
    clock.setup(trainer, CPU, "fit")
    clock.load_state_dict({"batches": 4, "tokens": 70, "dropped": 2})
    assert (clock.batches, clock.tokens, clock.dropped) == (4, *((70, 2) if rank == 0 else (0, 0)))
    if rank == 0:
        assert clock.state_dict() == {"batches": 4, "tokens": 70, "dropped": 2}
    clock.on_train_start(trainer, CPU)
    assert trainer.datamodule.batches == 4


def test_draws_depend_on_seed_batch_and_rank_alone():
    def drawn(seed: int, batches: int, rank: int) -> float:
        clock = Clock(seed)
        clock.batches = batches
        clock.on_train_batch_start(trainer_of(rank), CPU, None, 0)
        return float(torch.rand(()))

    places = [(3, 0, 0), (3, 1, 0), (3, 0, 1), (4, 0, 0)]
    found = [drawn(*place) for place in places]
    assert found == [drawn(*place) for place in places]
    assert len(set(found)) == 4
