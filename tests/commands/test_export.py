"""An exported folder is used as its model card says, by a process that does not know icot."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMALL, icot

WITHOUT_ICOT = """
import json, sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] != "icot", "icot was imported"
sys.meta_path.insert(0, Forbidden())
"""


def alone(code: str, folder: Path) -> str:
    """Run ``code`` in ``folder`` with icot forbidden; what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ICOT + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**environment, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def card_code(folder: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    return code.replace('"FOLDER"', '"."')


def predictions(run: Path, *overrides: str, cwd: Path) -> list[dict]:
    common = ["speed.examples=0", "paths.cache_dir=cache", "out=e"]
    done = icot("evaluate", f"run_dir={run}", *overrides, *common, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (cwd / "e" / "predictions.jsonl").open()]


def export(run: Path, *overrides: str, cwd: Path):
    return icot("export", f"run_dir={run}", "paths.cache_dir=cache", *overrides, cwd=cwd)


def learned(folder: Path, *overrides: str) -> Path:
    """A run that knows its validation questions by heart at full removal, positions kept."""
    (folder / "lines.txt").write_text(
        "".join(
            f"{a} {b} * {c} 1||{a} {c} {b} + 3 #### {(a * c) % 10} {b} {c}\n"
            for a in range(1, 6)
            for b in range(1, 5)
            for c in (1, 4)
        )
    )
    done = icot(
        "train",
        "task=text",
        "task.data_dir=.",
        "task.train_file=lines.txt",
        "task.valid_file=lines.txt",
        "task.test_file=null",
        *SMALL[4:],
        "schedule=no_cot",
        "schedule.keep_position_ids=true",
        "trainer.max_steps=200",
        "trainer.max_epochs=-1",
        "paths.cache_dir=cache",
        "hydra.run.dir=run",
        *overrides,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_plain_transformers_gives_the_same_answers(tmp_path):
    """Twenty problems, with kept positions moved into the table, alone and in a padded batch."""
    run = learned(tmp_path)
    expected = predictions(run, cwd=tmp_path)[:20]
    assert sum(p["correct"] for p in expected) > 10, "the model must have learned something"
    done = export(run, "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20 of 20 answers" in done.stdout
    code = f"""
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
prompts = [" " + q + " <eos><eos>" for q in {[p["question"] for p in expected]!r}]
ask = pipeline("text-generation", model=".")
one = [ask(p, return_full_text=False)[0]["generated_text"] for p in prompts]
tokenizer = AutoTokenizer.from_pretrained(".", padding_side="left")
model = AutoModelForCausalLM.from_pretrained(".")
batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
new = model.generate(**batch)[:, batch["input_ids"].shape[1]:]
print(json.dumps([one, tokenizer.batch_decode(new, skip_special_tokens=True)]))
"""
    for answers in json.loads(alone(code, tmp_path / "x").splitlines()[-1]):
        assert [" ".join(a.split()) for a in answers] == [p["prediction"] for p in expected]
    shown = alone(card_code(tmp_path / "x"), tmp_path / "x")
    assert shown.strip() == expected[0]["prediction"]
    card = (tmp_path / "x" / "README.md").read_text()
    assert "the model answers directly" in card
    assert "20 of 20" in card
    elsewhere = icot("evaluate", f"run_dir={run}", cwd=tmp_path / "x")  # its data_dir is relative
    assert elsewhere.returncode == 2
    assert "start where the training started, or set data_file=" in elsewhere.stderr
    settings = json.loads((tmp_path / "x" / "generation_config.json").read_text())
    assert settings["max_new_tokens"] == 5  # the mark, three digits, the separator
    assert settings["do_sample"] is False


def test_a_stage_in_between_is_used_as_its_card_says(small_run, tmp_path):
    expected = predictions(small_run, "stage=5", cwd=tmp_path)
    done = export(small_run, "stage=5", "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code = card_code(tmp_path / "x")
    body = code.partition("chain, answer =")[0] + "print(json.dumps(tokenizer.decode(written)))\n"
    written = json.loads(alone(body, tmp_path / "x").splitlines()[-1])
    parts = " ".join(written.split("<eos>")[:2]).split()
    assert " ".join(parts) == expected[0]["prediction"]


def test_adapters_are_merged_on_request(tmp_path, symbols):
    pytest.importorskip("peft")
    from icot.models.loading import load_model

    load_model(
        "gpt2", False, symbols, 40, {"n_layer": 1, "n_embd": 16, "n_head": 2}
    ).save_pretrained(tmp_path / "base")
    symbols.save_pretrained(tmp_path / "base")
    trained = icot(
        "train",
        "task=mult2",
        "task.train_size=100",
        "task.valid_size=20",
        "model=gpt2",
        f"model.name_or_path={tmp_path / 'base'}",
        "model.lora.r=2",
        "model.lora.target_modules=[c_attn]",
        "schedule=no_cot",
        "trainer=cpu",
        "optimizer.lr=0.02",
        "trainer.max_steps=8",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    expected = predictions(tmp_path / "run", cwd=tmp_path)
    done = export(tmp_path / "run", "merge_lora=true", "out=whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (tmp_path / "whole").iterdir()}
    assert "model.safetensors" in names
    assert not any(name.startswith("adapter") for name in names)
    done = export(tmp_path / "run", "out=adapters", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "adapters" / "adapter_model.safetensors").is_file()
    assert "peft" in (tmp_path / "adapters" / "README.md").read_text()
    code = f"""
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
prompt = tokenizer({" " + expected[0]["question"] + " <eos>"!r}, return_tensors="pt")
new = model.generate(
    input_ids=prompt["input_ids"], attention_mask=prompt["attention_mask"],
    do_sample=False, max_new_tokens={expected[0]["tokens"]}, eos_token_id=None,
)
print(json.dumps(new[0].tolist()))
"""
    whole, adapters = (
        json.loads(alone(code, tmp_path / name).splitlines()[-1]) for name in ("whole", "adapters")
    )
    assert whole == adapters
    text = symbols.decode(whole[6:], skip_special_tokens=True)
    assert " ".join(text.split()) == expected[0]["prediction"]


def test_what_plain_transformers_cannot_do_is_refused(tmp_path):
    """Kept positions that jump by each chain's own length."""
    (tmp_path / "ragged.txt").write_text("1 1 * 1 1||1 #### 1\n1 1 1 * 1 1||1 + 2 #### 1\n")
    done = icot(
        "train",
        "task=text",
        "task.data_dir=.",
        "task.train_file=ragged.txt",
        "task.valid_file=ragged.txt",
        "task.test_file=null",
        *SMALL[4:],
        "schedule=no_cot",
        "schedule.keep_position_ids=true",
        "trainer.max_steps=1",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    done = export(tmp_path / "run", "out=x", cwd=tmp_path)
    assert done.returncode == 2
    assert "schedule.keep_position_ids" in done.stderr
    assert "differ in length" in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["out=full"], "exists and is not an empty folder"),
        ([], "out must be set"),
        (["out=x", "stage=all"], "export one stage at a time"),
        (["out=x", "stage=55"], "there are final, best, 0"),
        (["out=file/x"], "cannot be written"),
    ],
)
def test_bad_input_ends_in_one_clear_line(small_run, tmp_path, overrides, expected):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    done = export(small_run, *overrides, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
