"""BOS from the data to the exported folder: everything asks as training did."""

import json
import shutil

import pytest
import yaml
from transformers import AutoTokenizer

import icot as package
from tests.commands.test_export import alone, card_code, export, learned, predictions
from tests.conftest import icot
from tests.tokenizers_with_bos import SHAPES

PROMPTS = """
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(".")
print(json.dumps([tokenizer(prompt)["input_ids"] for prompt in {prompts!r}]))
"""


def trained(folder, add_bos, make):
    make(folder / "tokenizer")
    tokenizer = f"model.tokenizer={folder / 'tokenizer'}"
    return learned(folder, tokenizer, f"model.add_bos={add_bos}")


@pytest.mark.parametrize(
    ("shape", "add_bos"), [("llama", "null"), ("opt", "null"), ("phi3", "true")]
)
def test_everything_begins_a_question_as_training_did(tmp_path, monkeypatch, shape, add_bos):
    monkeypatch.chdir(tmp_path)
    make, bos = SHAPES[shape]
    run = trained(tmp_path, add_bos, make)
    begins = (bos is not None) if add_bos == "null" else add_bos == "true"
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["add_bos"] is begins
    expected = predictions(run, cwd=tmp_path)[:20]
    assert len({p["prediction"] for p in expected}) > 4, "the model must have learned something"
    questions = [p["question"] for p in expected]
    assert package.load(run).answer(questions) == [p["prediction"] for p in expected]
    done = export(run, "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "answers of icot.evaluate to 20 of 20 prompts" in done.stdout
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    eos = tokenizer.eos_token
    prompts = [f" {question} {eos}{eos}" for question in questions]
    own = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    leading = [tokenizer.bos_token_id] if begins else []
    code = PROMPTS.format(prompts=prompts) + card_code(tmp_path / "x")
    rows, answer = alone(code, tmp_path / "x").splitlines()[-2:]
    assert json.loads(rows) == [leading + row for row in own]
    shown = [p["prediction"] for p in expected if p["correct"]] or [expected[0]["prediction"]]
    assert answer.strip() == shown[0]


def test_a_run_of_before_the_key_keeps_what_it_had(tmp_path):
    """No BOS, with a tokenizer that adds it: evaluated, exported and resumed."""
    make, _ = SHAPES["llama"]
    run = trained(tmp_path, "false", make)
    expected = predictions(run, cwd=tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["model"]["add_bos"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.rmtree(tmp_path / "e")
    assert predictions(run, cwd=tmp_path) == expected
    done = export(run, "out=x", cwd=tmp_path)
    assert "answers of icot.evaluate to 20 of 20 prompts" in done.stdout, done.stderr
    done = icot("train", f"resume={run}", "trainer.max_steps=204", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "summary.json").read_text())["steps"] == 204
    done = icot("train", f"resume={run}", "model.add_bos=true", cwd=tmp_path)
    assert done.returncode == 2
    assert "model.add_bos is False there and True here" in done.stderr
