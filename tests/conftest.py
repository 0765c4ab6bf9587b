"""Shared by all tests: CPU, offline, toy models, the real configuration."""

import os
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a process per core

from icot.models.tokenizers import build_symbol_tokenizer
from icot.tasks.multiplication import Multiplication
from tests.running import REPOSITORY, icot
from tests.small import SMALL

# The files that take minutes, longest first: begun last, one of them would keep a process busy
# while the others have nothing left.
LONG = (
    "test_reliability.py",
    "test_train.py",
    "test_tutorial.py",
    "test_benchmark.py",
    "test_rollback.py",
    "test_resume.py",
    "test_verification.py",
    "test_sweeps.py",
    "test_export.py",
)
REAL_DATA = REPOSITORY.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first."""
    items.sort(key=lambda item: LONG.index(n) if (n := item.path.name) in LONG else len(LONG))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """The directory of a run that was trained through every stage and kept each one's weights."""
    folder = tmp_path_factory.mktemp("run")
    done = icot(
        "train",
        *SMALL,
        "schedule=icot_si",
        "schedule.tokens_per_epoch=4",
        "trainer.max_epochs=4",
        "trainer.max_steps=-1",
        "checkpoints.every_stage=true",
        "paths.cache_dir=cache",
        "hydra.run.dir=run",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def real_data() -> Path:
    """The folder of published data and the real GPT-2 tokenizer, which is not in the project."""
    if not REAL_DATA.is_dir():
        pytest.skip("needs the published data beside the checkout (../shared/data)")
    return REAL_DATA


@pytest.fixture
def mult2() -> Multiplication:
    return Multiplication(2, train_size=70, valid_size=20, test_size=5, seed=1)


@pytest.fixture
def symbols(mult2: Multiplication) -> PreTrainedTokenizerBase:
    return build_symbol_tokenizer(mult2.symbols())
