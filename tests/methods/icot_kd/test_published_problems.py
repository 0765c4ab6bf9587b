"""The pipeline for GSM8K on published problems with the real tokenizer, twenty updates a step."""

import csv

import pytest

from icot.runs.kept_run import KeptRun
from icot.runs.pipeline_index import read_steps
from tests.chaos.pipelines import STEPS
from tests.conftest import icot

UPDATES = 20
# A random GPT-2 without dropout, which packed rows would draw for other places.
MODEL = (
    *("model.pretrained=false", "model.attn_implementation=eager"),
    *("+model.config.n_layer=4", "+model.config.n_embd=64", "+model.config.n_head=4"),
    *(f"+model.config.{name}_pdrop=0" for name in ("resid", "embd", "attn")),
)
SETTINGS = (
    *("+pipeline=icot_kd_gsm8k", "experiment=table3_gpt2_icot_kd"),
    *("task=gsm8k_nl", "task.format=gsm8k", "task.train_file=openai_train.jsonl"),
    *("task.train_size=160", "task.valid_size=20", "data.batch_size=8", "paths.cache_dir=cache"),
    *(f"trainer.max_steps={UPDATES}", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu"),
)


def losses(run):
    with (run / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.slow
def test_all_steps_train_as_well_packed(real_data, tmp_path):
    places = (
        f"task.data_dir={real_data / 'gsm8k'}",
        f"model.tokenizer={real_data / 'gpt2-tokenizer'}",
    )
    for name, packing in (("padded", "false"), ("packed", "true")):
        words = (*SETTINGS, *MODEL, *places, f"data.packing={packing}", f"out={name}")
        done = icot("pipeline", *words, cwd=tmp_path, forked=False)
        assert done.returncode == 0, done.stderr
        assert [row["state"] for row in read_steps(tmp_path / name).values()] == ["finished"] * 4
    for step in STEPS:
        padded, packed = (losses(tmp_path / place / step) for place in ("padded", "packed"))
        assert len(padded) == UPDATES
        assert packed == pytest.approx(padded, rel=1e-5)
    kept = KeptRun(tmp_path / "packed" / "coupled").cfg.method.arguments()
    assert kept["mixture_size"] == 50257, "the emulator's"
