"""``python -m icot.report DIR...``: the results of runs as an HTML page, Markdown and figures.

    python -m icot.report outputs/sweeps/ablation_1a2b3c4d
    python -m icot.report outputs/RUN outputs/OTHER out=report

Reads only run directories. This module puts the components of ``icot.reporting`` together.
"""

from pathlib import Path

from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import ReportConfig
from icot.reporting.finding import find_runs
from icot.reporting.page import write_report
from icot.reporting.sections import document
from icot.runs.layout import REPORT


def run(cfg: ReportConfig, command: CommandLine) -> None:
    """Read the runs, write the report."""
    quiet_libraries()
    places = [Path(place) for place in cfg.runs]
    found = find_runs(places)
    out = Path(cfg.out) if cfg.out else (places[0] if len(places) == 1 else Path()) / "report"
    write_report(document(found), out)
    finished = sum(one.finished for one in found.runs)
    waiting = f"{len(found.missing)} runs of sweeps have not ended"
    print(f"{finished} of {len(found.runs)} runs finished, {waiting}.")
    for message in found.unreadable:
        print(f"Not read: {message}")
    print(f"Report: {out / REPORT}")
