"""``python -m icot.dashboard project=icot``: the W&B workspace for ablations, and a report.

    python -m icot.dashboard project=icot                  build both at W&B
    python -m icot.dashboard project=icot dry_run=true     write them to dashboard.json

Without W&B, ``python -m icot.report`` shows the same.
"""

import json
from pathlib import Path
from typing import Any

from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import DashboardConfig
from icot.errors import UserError, first_line
from icot.system.files import write_text


def run(cfg: DashboardConfig, command: CommandLine) -> None:
    """Build workspace and report, and send or write them."""
    quiet_libraries()
    try:
        import wandb
        import wandb_workspaces.reports.v2 as wr

        from icot.tracking.wandb_workspace import report, workspace
    except ImportError as error:
        raise _needed(error) from None

    if cfg.dry_run:
        entity = cfg.entity or ""
        view = workspace(cfg.project, entity, cfg.name)
        # A set of runs that names its project is looked up at W&B; without, it is the report's.
        page = report(cfg.project, entity, cfg.name, wr.Runset())
        path = Path(cfg.out)
        content = {"workspace": _serialised(view), "report": _serialised(page)}
        write_text(path, json.dumps(content, indent=2) + "\n")
        print(f"Dashboard: {path}")
        return
    try:
        entity = str(cfg.entity or wandb.Api().default_entity)
        view = workspace(cfg.project, entity, cfg.name)
        page = report(cfg.project, entity, cfg.name, wr.Runset(entity=entity, project=cfg.project))
        view.save()
        page.save()
    except Exception as error:  # of W&B's client, which has no common kind
        raise _refused(error) from error
    print(f"Workspace: {view.url}\nReport: {page.url}")


def _serialised(made: Any) -> Any:
    return json.loads(made._to_model().model_dump_json(by_alias=True, exclude_none=True))


def _needed(error: ImportError) -> UserError:
    return UserError(f"the dashboard needs a package: pip install 'icot[wandb]' ({error}).")


def _refused(error: Exception) -> UserError:
    return UserError(
        f"W&B: {first_line(error)} Log in with wandb login, check project= and entity=, or write "
        "the dashboard to a file with dry_run=true."
    )
