"""``python -m icot.dashboard project=icot``: the W&B workspace for ablations, and a report.

    python -m icot.dashboard project=icot                  build both at W&B
    python -m icot.dashboard project=icot dry_run=true     write them to dashboard.json

Without W&B, ``python -m icot.report`` shows the same.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from icot.cli import quiet_libraries, run

if TYPE_CHECKING:
    from icot.errors import UserError


def dashboard(cfg: DictConfig) -> None:
    """Build workspace and report, and send or write them."""
    from icot.config.checks import check_values
    from icot.errors import ConfigError
    from icot.system.files import write_text

    if mistakes := check_values(cfg):
        raise ConfigError(mistakes)
    quiet_libraries()
    try:
        import wandb
        import wandb_workspaces.reports.v2 as wr
    except ImportError as error:
        raise _needed(error) from None
    from icot.tracking.wandb_workspace import report, workspace

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


def _needed(error: ImportError) -> "UserError":
    from icot.errors import UserError

    return UserError(f"the dashboard needs a package: pip install 'icot[wandb]' ({error}).")


def _refused(error: Exception) -> "UserError":
    from icot.errors import UserError, first_line

    return UserError(
        f"W&B: {first_line(error)} Log in with wandb login, check project= and entity=, or write "
        "the dashboard to a file with dry_run=true."
    )


def main() -> None:
    """The command."""
    run("dashboard", dashboard)
