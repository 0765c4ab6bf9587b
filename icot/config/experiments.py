"""Names of experiments: ``conf/experiment/PAPER/NAME.yaml``, its sibling, and their short names.

    experiment=icot_si/table2_4x4_icot_si          the file
    experiment=icot_si/table2_4x4_icot_si_cpu      its sibling at CPU size, generated here
    experiment=table2_4x4_icot_si                  the short name; also table2_4x4_icot_si_cpu

    experiment=prompted/table2_4x4_gpt4_explicit   one of icot.evaluate, which trains nothing
    experiment=icot_kd/table2_4x4_icot_kd          one of icot.pipeline, for all of its steps

A sibling is its experiment with ``conf/settings/SIZE.yaml`` on top; ``SIBLINGS`` says which size.
"""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import OmegaConf

CONFIG_MODULE = "icot.conf"
GROUP = "experiment"
SUFFIX = "_cpu"
PROMPTED = "prompted"  # the folder of the paper's prompted models, which icot.evaluate asks

# For each paper: patterns of experiment names, and their siblings' settings. First match wins.
SIBLINGS = {
    "icot_si": (
        ("table3_*", "cpu_gsm8k"),
        ("table[12]_4x4*", "cpu_2x2"),
        ("table[12]_*", "cpu_3x3"),
        ("figure2a_*", "cpu_3x3"),
        ("figure[34]_*", "cpu_2x2"),
        ("appendix_c_*", "cpu_2x2"),
    ),
    "mathglm": (("*", "cpu_mixed_digits"),),
}
# What a sibling sets besides its size.
VALUES: dict[str, dict[str, Any]] = {
    # Twice the tokens per epoch of the other siblings, as in the paper's rows.
    "figure3_delta16": {"schedule": {"tokens_per_epoch": 0.8}},
    # Larger models, as in the rows.
    "table2_mathglm_500m": {"model": {"config": {"n_layer": 4}}},
    "table2_mathglm_2b": {"model": {"config": {"n_layer": 4, "n_embd": 256}}},
}


@cache
def rows() -> tuple[tuple[str, str], ...]:
    """Paper and name of each experiment file."""
    folders = [f for f in files(CONFIG_MODULE).joinpath(GROUP).iterdir() if f.is_dir()]
    found = [
        (folder.name, file.name.removesuffix(".yaml"))
        for folder in folders
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    ]
    return tuple(sorted(found))


def is_prompted(experiment: str) -> bool:
    """Whether an experiment asks a model and trains none."""
    return (PROMPTED, short_name(experiment)) in rows()


def of_another_command(experiments: Iterable[Any], command: str) -> list[str]:
    """What to say of experiments that a command does not run."""
    evaluates = command == "evaluate"
    others = [str(name) for name in experiments if name and is_prompted(str(name)) != evaluates]
    does = "trains no model, it asks one: python -m icot.evaluate"
    if evaluates:
        does = "is trained, then its run is evaluated: python -m icot.train"
    return [f"experiment={name} {does} experiment={name}" for name in others]


def sibling_settings(paper: str, name: str) -> str | None:
    """The settings of an experiment's sibling; None if it has no sibling."""
    patterns = SIBLINGS.get(paper, ())
    return next((size for pattern, size in patterns if fnmatchcase(name, pattern)), None)


def short_name(experiment: str) -> str:
    """An experiment's name without its paper, as saved in run directories."""
    return experiment.rpartition("/")[2]


class LateNode(ConfigNode):
    """A configuration in Hydra's store that is created when Hydra loads it.

    Creating a hundred nodes at once would cost every command twenty milliseconds.
    """

    def __init__(self, group: str, name: str, content: dict[str, Any]) -> None:
        self.name, self.group = f"{name}.yaml", group
        self.package, self.provider = "_global_", None
        self.content = content

    def __getattr__(self, key: str) -> Any:
        if key == "node":
            return OmegaConf.create(self.content)
        raise AttributeError(key)


def register_experiments() -> None:
    """Register the siblings and the short names with Hydra."""
    repo = ConfigStore.instance().repo
    for group, name, content in _nodes():
        place = repo
        for folder in group.split("/"):
            place = place.setdefault(folder, {})
        place[f"{name}.yaml"] = LateNode(group, name, content)


def _nodes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Group, name and content of each configuration that has no file."""
    for paper, name in rows():
        yield GROUP, name, {"defaults": [f"{paper}/{name}"]}
        size = sibling_settings(paper, name)
        if size is not None:
            own = VALUES.get(name, {})
            defaults = [name, f"/settings/{size}", *(["_self_"] if own else [])]
            yield f"{GROUP}/{paper}", name + SUFFIX, {"defaults": defaults, **own}
            yield GROUP, name + SUFFIX, {"defaults": [f"{paper}/{name}{SUFFIX}"]}
