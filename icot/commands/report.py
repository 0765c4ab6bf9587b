"""``python -m icot.report DIR...``: what runs show, as one page, as Markdown and as pictures.

    python -m icot.report outputs/sweeps/ablation_1a2b3c4d
    python -m icot.report outputs/RUN outputs/OTHER out=report

Reads run directories and nothing else. Composes the parts; ``icot.reporting`` makes them.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from icot.cli import quiet_libraries, run


def report(cfg: DictConfig) -> None:
    """Read the runs, write the report."""
    from icot.config.checks import check_values
    from icot.errors import ConfigError
    from icot.reporting.page import HTML, write_report
    from icot.reporting.runs import find_runs
    from icot.reporting.sections import document

    if mistakes := check_values(cfg):
        raise ConfigError(mistakes)
    quiet_libraries()
    places = [Path(place) for place in cfg.runs]
    runs, missing = find_runs(places)
    out = Path(cfg.out) if cfg.out else (places[0] if len(places) == 1 else Path()) / "report"
    write_report(document(runs, missing), out)
    finished = sum(one.finished for one in runs)
    print(f"{finished} of {len(runs)} runs finished, {len(missing)} of sweeps not ended.")
    print(f"Report: {out / HTML}")


def with_folders_named(arguments: list[str]) -> list[str]:
    """The command line with its bare words, which are folders, as one override of ``runs``."""
    from icot.runs.resume import quoted

    bare = [a for a in arguments if "=" not in a and not a.startswith("-")]
    if not bare:
        return arguments
    rest = [a for a in arguments if a not in bare]
    return [*rest, f"runs=[{','.join(quoted(folder) for folder in bare)}]"]


def main() -> None:
    """The command."""
    sys.argv[1:] = with_folders_named(sys.argv[1:])
    run("report", report)
