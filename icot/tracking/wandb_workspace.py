"""The W&B workspace and report for ablations.

Panels use only metrics and configuration keys that a run with ``logger=wandb`` logs.
"""

from typing import Any

from icot.tracking.throughput import EXAMPLES_PER_SECOND, TOKENS_PER_SECOND
from icot.tracking.wandb_record import CURVE, FINAL, PREDICTIONS_TABLE, RUN, STAGE_TABLE
from icot.training.callbacks.stages import STAGE, TOKENS_REMOVED
from icot.training.callbacks.validation_accuracy import ACCURACY, PERPLEXITY, TOKEN_ACCURACY
from icot.training.causal_lm import EXACT_MATCH
from icot.training.module import LOSS

DELTA, LAMBDA, SEED = "schedule.tokens_per_epoch", "schedule.smoothing_lambda", "seed"
SCHEDULE, EXPERIMENT, TASK = f"{RUN}.schedule", f"{RUN}.experiment", f"{RUN}.task"
CONFIG_KEYS = (DELTA, LAMBDA, SEED, SCHEDULE, EXPERIMENT, TASK)
FINAL_ACCURACY = f"{FINAL}/accuracy"
BY_SCHEDULE = "Accuracy against tokens removed"


def panels_by_section() -> dict[str, list[Any]]:
    """The panels of each section, by heading."""
    import wandb_workspaces.reports.v2 as wr

    def against_tokens_removed(title: str, by: str | None, **options: Any) -> Any:
        group = {} if by is None else {"groupby": wr.Config(by), "groupby_aggfunc": "mean"}
        return wr.LinePlot(
            title=title,
            x=TOKENS_REMOVED,
            y=[ACCURACY],
            title_x="chain-of-thought tokens removed",
            title_y="validation exact match",
            range_y=(0, 1),
            **group,
            **options,
        )

    def bars(title: str, metric: str, by: str) -> Any:
        return wr.BarPlot(title=title, metrics=[metric], groupby=wr.Config(by))

    def over_steps(title: str, metric: str) -> Any:
        return wr.LinePlot(title=title, x="Step", y=[metric])

    def columns(*keys: Any) -> list[Any]:
        return [wr.ParallelCoordinatesPlotColumn(metric=key) for key in keys]

    accuracy = wr.SummaryMetric(FINAL_ACCURACY)
    return {
        BY_SCHEDULE: [
            against_tokens_removed("By schedule", SCHEDULE, groupby_rangefunc="minmax"),
            against_tokens_removed("By experiment", EXPERIMENT, groupby_rangefunc="minmax"),
            against_tokens_removed("Each run", None),
        ],
        "Δ × λ": [
            wr.ScatterPlot(
                title="Final accuracy by Δ and λ",
                x=wr.Config(DELTA),
                y=wr.Config(LAMBDA),
                z=accuracy,
            ),
            wr.ParallelCoordinatesPlot(
                title="Δ, λ, seed, accuracy",
                columns=columns(wr.Config(DELTA), wr.Config(LAMBDA), wr.Config(SEED), accuracy),
            ),
            wr.ParameterImportancePlot(with_respect_to=FINAL_ACCURACY),
        ],
        "Seeds": [
            against_tokens_removed("Mean and spread", EXPERIMENT, groupby_rangefunc="stddev"),
            bars("Final accuracy", FINAL_ACCURACY, EXPERIMENT),
            bars("Tokens removed at the end", f"{FINAL}/tokens_removed", EXPERIMENT),
        ],
        "Throughput and cost": [
            over_steps("Examples a second", EXAMPLES_PER_SECOND),
            over_steps("Tokens a second", TOKENS_PER_SECOND),
            bars("Seconds", f"{FINAL}/seconds", SCHEDULE),
            bars("Tokens trained on", f"{FINAL}/tokens_seen", SCHEDULE),
        ],
        "Training": [
            over_steps("Loss", LOSS),
            over_steps("Exact match of training batches", EXACT_MATCH),
            over_steps("Stage", STAGE),
            wr.LinePlot(title="Token accuracy", x=TOKENS_REMOVED, y=[TOKEN_ACCURACY]),
            wr.LinePlot(title="Perplexity", x=TOKENS_REMOVED, y=[PERPLEXITY], log_y=True),
        ],
        "Comparison of runs": [
            wr.RunComparer(diff_only=True),
            wr.MediaBrowser(title="Accuracy by tokens removed", media_keys=[CURVE]),
            wr.WeavePanelSummaryTable(table_name=STAGE_TABLE),
            wr.WeavePanelSummaryTable(table_name=PREDICTIONS_TABLE),
        ],
    }


def workspace(project: str, entity: str, name: str) -> Any:
    """The workspace; only its ``save()`` needs an account."""
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        name=name,
        entity=entity,
        project=project,
        sections=[
            ws.Section(name=title, panels=panels, is_open=title == BY_SCHEDULE)
            for title, panels in panels_by_section().items()
        ],
    )


def report(project: str, entity: str, name: str, runset: Any) -> Any:
    """A report with the same panels and notes on how to read them.

    Args:
        project: the project of the runs.
        entity: the user or team.
        name: the report's title.
        runset: the runs; without a project it needs no account and stands for the report's project.
    """
    import wandb_workspaces.reports.v2 as wr

    notes = {
        BY_SCHEDULE: "A dip after a removal that recovers is usual; a line that stays low has lost "
        "the task at that token.",
        "Seeds": "Few seeds say little: look at each of them before the mean.",
        "Throughput and cost": "Wall time including validation; compare runs of one machine.",
    }
    blocks: list[Any] = [wr.TableOfContents()]
    for title, panels in panels_by_section().items():
        blocks.append(wr.H2(text=title))
        if title in notes:
            blocks.append(wr.P(text=notes[title]))
        blocks.append(wr.PanelGrid(runsets=[runset], panels=panels))
    return wr.Report(
        project=project,
        entity=entity,
        title=name,
        description="Stepwise internalization: accuracy against tokens removed, sweeps and seeds.",
        blocks=blocks,
    )
