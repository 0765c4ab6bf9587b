"""The presets of OPT: their shapes, and small models that learn, answer and are exported."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import icot as package
from icot.config.command_line import compose_config
from tests.commands.test_export import LINES, export, predictions
from tests.small import SMALL
from tests.tokenizers_with_bos import opt_type

MILLIONS = {"opt-125m": 125, "opt-350m": 331, "opt-1.3b": 1316}
TINY = "hidden_size: 32, ffn_dim: 64, num_hidden_layers: 1, num_attention_heads: 2, dropout: 0"
NARROW = f"{TINY}, word_embed_proj_dim: 16, do_layer_norm_before: false"


@pytest.mark.parametrize("preset", MILLIONS)
def test_the_shape_of_a_preset(preset):
    cfg = compose_config("train", [f"model={preset}"]).model
    assert cfg.name_or_path == f"facebook/{preset}"
    shape = AutoConfig.for_model(cfg.architecture, **cfg.config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == MILLIONS[preset]


@pytest.mark.parametrize(("preset", "shape"), [("opt-125m", TINY), ("opt-350m", NARROW)])
def test_a_small_one_answers_as_it_was_trained(preset, shape, tmp_path, monkeypatch):
    """BOS is the separator's token; kept position ids cut rows behind the table's first two."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text(LINES)
    run = package.train(
        *("task=text", "task.data_dir=.", "task.train_file=lines.txt"),
        *("task.valid_file=lines.txt", "task.test_file=null"),
        *(text for text in SMALL[4:] if not text.startswith("model.config")),
        *(f"model={preset}", "model.pretrained=false", "~model.config"),
        *(f"+model.config={{{shape}}}", f"model.tokenizer={opt_type(tmp_path / 'tokenizer')}"),
        *("schedule=no_cot", "schedule.keep_position_ids=true", "optimizer.lr=0.01"),
        *("trainer.max_steps=200", "trainer.max_epochs=-1"),
        *("paths.cache_dir=cache", "hydra.run.dir=run"),
    )
    expected = predictions(run.folder, cwd=tmp_path)
    assert len({p["prediction"] for p in expected}) > 4, "the model must have learned something"
    questions = [p["question"] for p in expected]
    assert run.answer(questions) == [p["prediction"] for p in expected]
    done = export(run.folder, "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "answers of icot.evaluate to 20 of 20 prompts" in done.stdout
