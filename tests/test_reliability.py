"""Short forms of ``python -m tests.chaos``."""

import pytest

from tests.chaos import commands, inputs, interruptions, sampling, storage
from tests.chaos.harness import Outcome
from tests.running import REPOSITORY

SHORT = ("trainer.max_epochs=30", "validation.examples=10")
PAGE = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")


def check(outcome: Outcome) -> None:
    """Nothing is lost, and the table of the documentation has the row."""
    assert outcome.lost == []
    assert f"| {outcome.name} |" in PAGE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all, so that what is compared with is trained once."""
    return tmp_path_factory.mktemp("chaos")


@pytest.mark.slow
def test_killed_at_named_moments(folder):
    chosen = {
        "plain": ("during validation", "during a checkpoint write", "end of training"),
        "accumulation": ("end of a stage",),
        "two ranks": ("mid-epoch",),
    }
    outcome = interruptions.moments(folder, chosen)
    check(outcome)
    assert outcome.tried == 5


@pytest.mark.slow
def test_killed_at_random_moments(folder):
    check(interruptions.kills(folder, 2, SHORT))


@pytest.mark.slow
def test_killed_commands(folder):
    for outcome in commands.kills_of_commands(folder, 2):
        check(outcome)


@pytest.mark.slow
def test_killed_sampling(folder):
    check(sampling.kills_of_sampling(folder, 3, ("samples=20",)))
    check(sampling.kills_of_sampling_from_a_server(folder, 3, ("examples=600",)))


@pytest.mark.slow
def test_signals(folder):
    check(interruptions.signals(folder, 1, SHORT))


@pytest.mark.slow
def test_a_full_disk_and_two_processes(folder):
    check(storage.file_size_limit(folder, ("checkpoint", "cache")))
    check(storage.two_on_one_directory(folder))


@pytest.mark.slow
def test_damaged_checkpoints(folder):
    check(storage.damage(folder, 200, resumed=1))


def test_mutated_text_files(folder):
    check(inputs.text_files(folder, 300))


def test_mutated_predictions(folder):
    check(inputs.predictions(folder, 300))


@pytest.mark.slow
def test_mutated_override_lists(folder):
    check(inputs.overrides(folder, 40))
