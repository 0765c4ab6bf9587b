"""A chat model in this process reads what its tokenizer's chat template makes of a prompt."""

import json

import pytest
from transformers import GPT2LMHeadModel

from icot.evaluation.loading import Source
from icot.methods.prompting.questions import read_questions
from icot.tasks.multiplication import Multiplication
from tests.chat_model import save_chat_model
from tests.conftest import icot
from tests.methods.prompting.test_few_shot import prompt

SIZES = {"train_size": 40, "valid_size": 6, "test_size": 5}
TASK = ("task=mult2", *(f"task.{key}={value}" for key, value in SIZES.items()))


@pytest.mark.parametrize("chat", ["null", "false"])
def test_a_chat_model_reads_its_template(tmp_path, chat):
    tokenizer = save_chat_model(tmp_path / "m")
    done = icot(
        "evaluate",
        *("predictor=prompted", "predictor.name_or_path=m", f"predictor.chat={chat}"),
        *("prompt=no_cot", "prompt.max_truncated=1", "max_new_tokens=8", "speed.examples=0"),
        *(*TASK, "out=e"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "e" / "predictions.jsonl").open()]
    source = Source.own(Multiplication(2, **SIZES), "valid")
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "m").eval()
    for text, line in zip(
        read_questions(source, prompt("no_cot"), None).prompts, lines, strict=True
    ):
        if chat == "null":
            asked = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )
        else:
            asked = tokenizer(text, return_tensors="pt")
        ids = asked["input_ids"]
        assert ids[0].tolist().count(tokenizer.bos_token_id) == 1
        assert line["prompt_tokens"] == ids.shape[1]
        wanted = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=1)
        wanted = tokenizer.decode(wanted[0, ids.shape[1] :], skip_special_tokens=True)
        assert line["prediction"] == wanted
    assert len({line["prediction"] for line in lines}) > 1
