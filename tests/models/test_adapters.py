import json

import pytest
import torch

from icot.errors import ModelError, RunError
from icot.models.adapters import add_lora
from icot.models.loading import load_model, restore_model
from icot.training.causal_lm import CausalLM
from tests.conftest import icot

TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2}
LORA = {"r": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["c_attn"]}


def test_lora_leaves_only_adapters_trainable(symbols):
    pytest.importorskip("peft")
    model = load_model("gpt2", False, symbols, positions=40, config=TINY)
    adapted = add_lora(model, **LORA)
    trainable = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora" in name for name in trainable)
    fresh = load_model("gpt2", False, symbols, positions=40, config=TINY)
    with pytest.raises(ModelError, match=r"model\.lora"):
        add_lora(fresh, **{**LORA, "target_modules": ["nothing"]})


@pytest.fixture
def base(tmp_path, symbols):
    """A folder with a pretrained model of 16 positions."""
    load_model("gpt2", False, symbols, 16, TINY).save_pretrained(tmp_path / "base")
    symbols.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_lengthened_positions_are_trained_beside_adapters(base, tmp_path, symbols):
    pytest.importorskip("peft")
    adapted = add_lora(load_model(str(base), True, symbols, positions=24), **LORA)
    trainable = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    (table,) = (name for name in trainable if "lora" not in name)
    assert "wpe" in table
    assert trainable[table].shape == (24, 32)
    with torch.no_grad():
        for p in trainable.values():
            p.add_(torch.randn_like(p))
    adapted.config.save_pretrained(tmp_path / "model")
    restored = restore_model(tmp_path / "model", adapted.state_dict(), lora=LORA)
    tokens = torch.arange(24)[None] % 12
    assert torch.equal(restored(input_ids=tokens).logits, adapted.eval()(input_ids=tokens).logits)


def test_a_run_of_before_the_table_was_trained_is_not_resumed(base, symbols):
    pytest.importorskip("peft")
    model = add_lora(load_model(str(base), True, symbols, positions=24), **LORA)
    module = CausalLM(model, torch.optim.AdamW)
    own = module.state_dict()
    old = {k: v for k, v in own.items() if "modules_to_save" not in k}
    with pytest.raises(RunError, match=r"model\.lora was begun by an earlier version"):
        module.on_load_checkpoint({"state_dict": old})
    module.on_load_checkpoint({"state_dict": own})


def test_a_run_with_lengthened_positions_is_resumed_and_evaluated(base, tmp_path):
    pytest.importorskip("peft")
    common = (
        "task=mult2", "task.train_size=100", "task.valid_size=20", "model=gpt2", "model.lora.r=2",
        f"model.name_or_path={base}", "model.lora.target_modules=[c_attn]", "trainer=cpu",
        "schedule=no_cot", "optimizer.lr=0.02", "paths.cache_dir=cache",
    )  # fmt: skip
    whole = icot("train", *common, "trainer.max_steps=6", "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert json.loads((tmp_path / "whole/model/config.json").read_text())["n_positions"] > 16
    parts = icot("train", *common, "trainer.max_steps=3", "hydra.run.dir=parts", cwd=tmp_path)
    assert parts.returncode == 0, parts.stderr
    parts = icot("train", "resume=parts", "trainer.max_steps=6", cwd=tmp_path)
    assert parts.returncode == 0, parts.stderr
    found = []
    for run in ("whole", "parts"):
        summary = json.loads((tmp_path / run / "summary.json").read_text())
        done = icot(
            "evaluate", f"run_dir={run}", "speed.examples=0", "paths.cache_dir=cache", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        evaluation = json.loads((tmp_path / run / "evaluation.json").read_text())
        assert evaluation["perplexity"] == pytest.approx(summary["perplexity"], rel=1e-5)
        found.append(summary["perplexity"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)
