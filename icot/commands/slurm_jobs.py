"""A pipeline's steps as Slurm jobs that wait for each other, by the launcher of sweeps (submitit).

    python -m icot.pipeline +pipeline=icot_kd hydra/launcher=slurm hydra.launcher.partition=gpu

The settings are those of ``conf/hydra/launcher/slurm.yaml``. A job becomes its step's command, so
Slurm's signals reach that command, which saves and queues its own job again.
"""

import os
import sys
from typing import Any

from omegaconf import OmegaConf

from icot.errors import UserError
from icot.runs.pipeline_index import PipelineIndex
from icot.runs.pipelines import Step

FOLDER = ".submitit/%j"  # in the pipeline's directory: the jobs' scripts and output
OF_HYDRA = ("_target_", "submitit_folder", "name", "max_num_timeout")
OF_ALL_CLUSTERS = {  # submitit's names for parameters that are not Slurm's alone
    *("timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb"),
    "stderr_to_stdout",
}


def describe_job(launcher: Any, step: Step) -> str:
    """The parameters of a step's job, one line."""
    given = {k: v for k, v in _parameters(launcher).items() if v not in (None, [], {})}
    shown = [f"{key.removeprefix('slurm_')}={value}" for key, value in given.items()]
    after = [f"dependency=afterok:{':'.join(step.needs)}"] if step.needs else []
    return "# job " + " ".join([*after, *shown])


def submit_steps(index: PipelineIndex, launcher: Any, pipeline: str) -> None:
    """Submit a job for each step that has neither finished nor a job in the queue.

    Raises:
        UserError: submitit is not installed, or there is no Slurm.
    """
    try:
        from submitit import AutoExecutor, SlurmJob
    except ImportError:
        raise UserError(
            "hydra/launcher=slurm needs a package: pip install 'icot[sweeps]'."
        ) from None
    folder = index.folder / FOLDER
    try:
        executor = AutoExecutor(cluster="slurm", folder=folder)
    except RuntimeError as error:
        raise UserError(f"hydra/launcher=slurm: {error}") from None
    for name, step in index.steps.items():
        job = index.rows[name]["job"]
        if index.is_finished(name) or (job and not SlurmJob(folder, job).done(force_check=True)):
            continue
        after = [index.rows[n]["job"] for n in step.needs if not index.is_finished(n)]
        executor.update_parameters(
            name=f"{pipeline}_{name}",
            slurm_dependency=f"afterok:{':'.join(after)}" if after else None,
            **_parameters(launcher),
        )
        words = [f"icot.{step.command}", *step.words(index.folder.resolve())]
        index.begin(name, executor.submit(become, words).job_id)
        print(f"{name}: job {index.rows[name]['job']}", flush=True)


def become(words: list[str]) -> None:
    """Go on as ``python -m WORDS`` in this very process."""
    os.execv(sys.executable, [sys.executable, "-m", *words])


def _parameters(launcher: Any) -> dict[str, Any]:
    """The launcher's settings as submitit calls them."""
    values: Any = OmegaConf.to_container(launcher, resolve=True)
    return {
        key if key in OF_ALL_CLUSTERS else f"slurm_{key}": value
        for key, value in values.items()
        if key not in OF_HYDRA
    }
