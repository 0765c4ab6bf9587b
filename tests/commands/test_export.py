"""An exported folder is used as its model card says, by a process that does not know icot."""

import json
import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from icot.models.loading import load_model
from icot.models.tokenizers import build_symbol_tokenizer
from icot.system.output import lock_output
from icot.tasks.multiplication import Multiplication
from tests.conftest import SMALL, icot
from tests.running import alone


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


LINES = "".join(
    f"{a} {b} * {c} 1||{a} {c} {b} + 3 #### {(a * c) % 10} {b} {c}\n"
    for a in range(1, 6)
    for b in range(1, 5)
    for c in (1, 4)
)


def learned(folder: Path, *overrides: str, lines: str = LINES) -> Path:
    """A run that knows its validation questions by heart at full removal, positions kept."""
    (folder / "lines.txt").write_text(lines)
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
    assert "answers of icot.evaluate to 20 of 20 prompts" in done.stdout
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
    assert shown.strip() == next(p["prediction"] for p in expected if p["correct"])
    card = (tmp_path / "x" / "README.md").read_text()
    assert "the model answers directly" in card
    assert "20 of 20" in card
    elsewhere = icot("evaluate", f"run_dir={run}", cwd=tmp_path / "x")  # its data_dir is relative
    assert elsewhere.returncode == 2
    assert "in the directory where the training was started" in elsewhere.stderr
    settings = json.loads((tmp_path / "x" / "generation_config.json").read_text())
    assert settings["max_new_tokens"] == 5  # the mark, three digits, the separator
    assert settings["do_sample"] is False


LORA = (
    *("model=gpt2", "model.lora.r=2", "model.lora.target_modules=[c_attn]", "optimizer.lr=0.02"),
    "model.attn_implementation=eager",  # else measured, and the answers depend on it
)
STAGES = (
    *("schedule=icot_si", "schedule.tokens_per_epoch=8", "checkpoints.every_stage=true"),
    *("trainer.max_epochs=3", "trainer.max_steps=-1"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a small base model."""
    folder = tmp_path_factory.mktemp("cards")
    task = Multiplication(2, train_size=1, valid_size=1, test_size=1)
    tokenizer = build_symbol_tokenizer(task.symbols())
    shape = {"n_layer": 1, "n_embd": 16, "n_head": 2}
    # With some weights the adapters do not learn to write the second separator, which is part of
    # the exported prompt; then wrong answers differ.
    torch.manual_seed(1)
    load_model("gpt2", False, tokenizer, 40, shape).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder


def trained(place: Path, name: str, *overrides: str) -> Path:
    """A run in ``place``, made once; of adapters if that is in its name."""
    if "adapters" in name:
        pytest.importorskip("peft")
        overrides = (*LORA, f"model.name_or_path={place / 'base'}", *overrides)
    else:
        overrides = (*[o for o in SMALL if o.startswith("model.")], *overrides)
    if not (place / name).exists():
        small = [o for o in SMALL if not o.startswith("model.")]
        more = [*small, *overrides, "paths.cache_dir=cache", f"hydra.run.dir={place / name}"]
        done = icot("train", *more, cwd=place)
        assert done.returncode == 0, done.stderr
    return place / name


CARDS = {  # run, what trains it, the stage to export, and what the card says of it
    "internalized": ("stages", STAGES, "final", "trained by stepwise internalization ([ICoT-SI]"),
    "partly": ("stages", STAGES, "4", "trained by stepwise internalization ([ICoT-SI]"),
    "no_cot": ("no_cot", ("schedule=no_cot", "trainer.max_steps=60"), "final", "(No CoT)"),
    "explicit": ("explicit", ("schedule=explicit", "trainer.max_steps=8"), "final", "(explicit"),
}


def exported(place: Path, weights: str, name: str) -> Path:
    """A folder of ``CARDS``, made once."""
    out = place / f"{weights} {name}"
    if not out.exists():
        run, overrides, stage, _ = CARDS[name]
        run = trained(place, f"{run} {weights}", *overrides)
        done = export(run, f"stage={stage}", f"out='{out}'", cwd=place)
        assert done.returncode == 0, done.stderr
    return out


def test_every_card_says_what_was_done_and_its_code_runs(place):
    """Whole models and adapters, at each kind of stage; what the code prints is in the card."""
    cards = {}
    for weights in ("all", "adapters"):
        for name, (*_, said) in CARDS.items():
            out = exported(place, weights, name)
            cards[out] = (out / "README.md").read_text()
            for text in (said, "40 of 40 prompts", "20 of 20 prompts.", "40 examples of the valid"):
                assert text in cards[out], out.name
            assert ("stepwise" in cards[out]) == ("trained by stepwise" in said)
            assert ("only low-rank adapters" in cards[out]) == (weights == "adapters")
            assert ("chain of thought removed" in cards[out]) == (name != "partly")
    code = f"""
import contextlib, io, os
for folder, code in {[(str(out), card_code(out)) for out in cards]!r}:
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {{}})
    print(json.dumps(" ".join(printed.getvalue().split())))
"""
    printed = [json.loads(line) for line in alone(code, place).splitlines()]
    for (out, card), answer in zip(cards.items(), printed, strict=True):
        (comment,) = re.findall(r"^# (.*)\n```", card, re.M)
        assert answer == comment.partition(" (correct is")[0], out.name


def test_adapters_are_merged_on_request(place, symbols):
    bare = exported(place, "adapters", "no_cot")
    run = place / "no_cot adapters"
    expected = predictions(run, cwd=place)
    done = export(run, "merge_lora=true", "out=whole", cwd=place)
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (place / "whole").iterdir()}
    assert "model.safetensors" in names
    assert not any(name.startswith("adapter") for name in names)
    assert "merged into the weights" in (place / "whole" / "README.md").read_text()
    assert (bare / "adapter_model.safetensors").is_file()
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
    both = [code.replace('"."', f'"{out}"') for out in (place / "whole", bare)]
    whole, adapters = map(json.loads, alone("".join(both), place).splitlines()[-2:])
    assert whole == adapters
    text = symbols.decode(whole[6:], skip_special_tokens=True)
    assert " ".join(text.split()) == expected[0]["prediction"]


def test_adapters_of_a_lengthened_model_load_at_its_length(place):
    """The base model has fewer positions than an example has tokens."""
    pytest.importorskip("peft")
    short = AutoModelForCausalLM.from_pretrained(place / "base")
    short.transformer.wpe.weight.data = short.transformer.wpe.weight.data[:16]
    short.config.n_positions = 16
    short.save_pretrained(place / "short")
    AutoTokenizer.from_pretrained(place / "base").save_pretrained(place / "short")
    overrides = (f"model.name_or_path={place / 'short'}", "schedule=no_cot", "trainer.max_steps=20")
    run = trained(place, "long adapters", *overrides)
    done = export(run, "out=long", cwd=place)
    assert done.returncode == 0, done.stderr
    card = (place / "long" / "README.md").read_text()
    assert "n_positions=21, ignore_mismatched_sizes=True" in card
    assert "20 of 20 prompts." in card
    (comment,) = re.findall(r"^# (.*)\n```", card, re.M)
    printed = " ".join(alone(card_code(place / "long"), place / "long").split())
    assert printed == comment.partition(" (correct is")[0]
    done = export(run, "out=long_whole", "merge_lora=true", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "20 of 20 prompts." in (place / "long_whole" / "README.md").read_text()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Each byte is a token, as in GPT-2's tokenizer without its merges."""
    signs = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({sign: i for i, sign in enumerate(signs)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def test_the_prompts_are_the_evaluated_ones_to_the_blank(tmp_path):
    """The text as it is in the data: two blanks or a line's end are other tokens than one blank."""
    byte_tokenizer().save_pretrained(tmp_path / "bytes")
    run = learned(
        tmp_path,
        *("model.tokenizer=bytes", "schedule.keep_position_ids=false", "trainer.max_steps=60"),
        lines="".join(f"{a}  +   {b} =||{a} {b} #### {a}\n" for a in range(5) for b in range(5)),
    )
    done = export(run, "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "x" / "README.md").read_text()
    assert "25 of 25 prompts into the tokens that were evaluated" in card
    assert "20 of 20 prompts." in card
    assert "  +   " in card_code(tmp_path / "x")


def test_outputs_that_do_not_end_stop_at_the_last_position(tmp_path):
    """Questions and answers of unequal length, of a model that has learned nothing."""
    lines = "".join(f"{'1 ' * n}* {n}||{n} #### {'2 ' * (9 - n)}\n" for n in range(1, 9))
    keep, steps = "schedule.keep_position_ids=false", "trainer.max_steps=1"
    run = learned(tmp_path, keep, steps, lines=lines)
    done = export(run, "out=x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "to 8 of 8 prompts." in done.stdout


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
    # The first example alone could be exported; the model is meant for the others too.
    done = export(tmp_path / "run", "out=x", "examples=1", cwd=tmp_path)
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


def test_a_second_process_is_refused(small_run, tmp_path):
    with lock_output(tmp_path / "x"):
        for command, source in (
            ("export", f"run_dir={small_run}"),
            ("evaluate", f"run_dir={small_run}"),
            ("prepare", "task=mult2"),
        ):
            done = icot(command, source, "out=x", cwd=tmp_path)
            assert done.returncode == 2, done.stderr
            assert "out=x: another process is writing there (process " in done.stderr
    assert not (tmp_path / "x").exists()
