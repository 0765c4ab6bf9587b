"""The schemas of the tasks, a part of the configuration's (``icot/config.py``)."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class TaskConfig:
    """What every task has; ``_target_`` is its class."""

    _target_: str = MISSING


@dataclass
class MultiplicationConfig(TaskConfig):
    """``icot.tasks.multiplication.Multiplication``."""

    _target_: str = "icot.tasks.multiplication.Multiplication"
    digits: int = MISSING
    chain: str = "long"
    train_size: int | None = None
    valid_size: int | None = None
    test_size: int | None = None
    seed: int = 3456


@dataclass
class TextFilesConfig(TaskConfig):
    """``icot.tasks.text_files.TextFiles``."""

    _target_: str = "icot.tasks.text_files.TextFiles"
    name: str = "text"
    data_dir: str = MISSING
    train_file: str | None = "train.txt"
    valid_file: str | None = "valid.txt"
    test_file: str | None = "test.txt"
    train_size: int | None = None
    valid_size: int | None = None
    test_size: int | None = None
    on_bad_line: str = "raise"


@dataclass
class HubGSM8KConfig(TaskConfig):
    """``icot.tasks.gsm8k.HubGSM8K``."""

    _target_: str = "icot.tasks.gsm8k.HubGSM8K"
    dataset: str = "whynlp/gsm8k-aug"
    subset: str | None = None
    revision: str | None = None
    held_out: int = 500
    train_size: int | None = None
    valid_size: int | None = None
    test_size: int | None = None
