"""Peak memory of an update, ours and the plain loop's, each in its own process."""

import multiprocessing
from typing import Any

from lightning import seed_everything

from icot.benchmarks import plain_loop
from icot.benchmarks.step import make_module, prepare_data, stages_of, train, whole_example
from icot.commands.build import build_optimizer
from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.data.sampler import BatchSampler
from icot.system.hardware import device_for, keep_freed_memory, peak_memory

UPDATES = 2  # the second one also has the optimizer's state


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Peak resident memory of the process, or peak GPU memory, after two updates."""
    spawn = multiprocessing.get_context("spawn")
    found = {}
    content = cfg.as_dict()
    for way in ("model alone", "ours", "plain"):
        with spawn.Pool(1) as pool:
            found[way] = pool.apply(_peak, (content, way))
    size, parameters = found["model alone"]
    megabytes = {way: peak / 1e6 for way, (peak, _) in found.items()}
    above = {way: megabytes[way] - size / 1e6 for way in ("ours", "plain")}
    return {
        "model": cfg.model.name_or_path,
        "parameters": parameters,
        "batch_size": cfg.data.batch_size,
        "precision": cfg.trainer.precision,
        "megabytes": megabytes,
        "ratios": {
            "plain over ours": megabytes["plain"] / megabytes["ours"],
            "the same, above the model alone": above["plain"] / above["ours"],
        },
    }


def _peak(content: Any, way: str) -> tuple[int, int]:
    """Peak memory of this process in bytes, and the model's number of weights."""
    quiet_libraries()
    cfg = BenchmarkConfig.model_validate(content)
    seed_everything(cfg.seed, verbose=False)
    data, device = prepare_data(cfg), device_for(cfg.trainer.accelerator)
    removed = stages_of(cfg, data.longest_cot)[0]
    module = make_module(cfg, data)
    model = module.model
    parameters = sum(p.numel() for p in model.parameters())
    if way == "ours":
        keep_freed_memory()
        train(cfg, module, data, removed, UPDATES)
    if way == "plain":
        model.to(device).train()
        optimizer = build_optimizer(cfg.optimizer)(model)
        plain = plain_loop.PlainCausalLM(model, removed, data.eos_token_id)
        order = iter(BatchSampler(len(data.split("train")), cfg.data.batch_size, cfg.seed))
        for _ in range(UPDATES):
            rows = [whole_example(data, int(n)) for n in next(order)]
            plain_loop.step(plain, optimizer, plain.loss(rows))
    return peak_memory(device), parameters
