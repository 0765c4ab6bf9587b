"""Short forms of ``python -m tests.chaos``."""

import pytest

from tests.chaos import inputs, interruptions, storage

SHORT = ("trainer.max_epochs=30", "validation.examples=10")


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
    assert (outcome.tried, outcome.lost) == (5, [])


@pytest.mark.slow
def test_killed_at_random_moments(folder):
    assert interruptions.kills(folder, 2, SHORT).lost == []


@pytest.mark.slow
def test_signals(folder):
    assert interruptions.signals(folder, 1, SHORT).lost == []


@pytest.mark.slow
def test_a_full_disk_and_two_processes(folder):
    assert storage.file_size_limit(folder, ("checkpoint", "cache")).lost == []
    assert storage.two_on_one_directory(folder).lost == []


@pytest.mark.slow
def test_damaged_checkpoints(folder):
    assert storage.damage(folder, 200, resumed=1).lost == []


def test_mutated_text_files(folder):
    assert inputs.text_files(folder, 300).lost == []


@pytest.mark.slow
def test_mutated_override_lists(folder):
    assert inputs.overrides(folder, 40).lost == []
