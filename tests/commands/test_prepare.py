"""What ``python -m icot.prepare`` writes can be read, and it writes over nothing that it reads."""

from tests.conftest import icot

TASK = """
from icot import Example, Task


class Odd(Task):
    name = "odd"

    def size(self, split):
        return 2

    def fingerprint(self, split):
        return {"task": "odd"}

    def chunks(self, split):
        yield [Example("1", "2", "1,000"), Example("1 || 2", "3", "4")]
"""


def test_bad_lines_are_left_out_of_the_files_too(tmp_path):
    lines = ["1 2||3 #### 1,000", "nonsense", "1 <eos> 2||3 #### 4", "5||6 #### 7"]
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    of_task = ["task=text", "task.data_dir=.", "task.test_file=null", "task.on_bad_line=skip"]
    done = icot("prepare", *of_task, "out=files", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "files/train.txt: 2 lines, 2 bad lines skipped" in done.stdout
    written = (tmp_path / "files" / "train.txt").read_text()
    assert written == "1 2||3 #### 1000\n5||6 #### 7\n"
    before = (tmp_path / "train.txt").read_bytes()
    done = icot("prepare", *of_task, "size=1", "out=.", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "train.txt is what the task reads; set out= to another folder" in done.stderr
    assert (tmp_path / "train.txt").read_bytes() == before
    (tmp_path / "own.txt").write_text("1||2 #### 3\n")  # train.txt is the source of validation
    names = ["task.train_file=own.txt", "task.valid_file=train.txt", "split=train"]
    done = icot("prepare", *of_task, *names, "out=.", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "train.txt is what the task reads" in done.stderr
    assert (tmp_path / "train.txt").read_bytes() == before


def test_what_no_line_can_hold_is_refused_by_name(tmp_path):
    (tmp_path / "own.py").write_text(TASK)
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "odd.yaml").write_text("_target_: own.Odd\n")
    done = icot("prepare", "--config-dir", "conf", "task=odd", "out=files", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "task odd, train: an example has 2 times '||'" in done.stderr
    assert "'1 || 2||3 #### 4'" in done.stderr
    assert not list(tmp_path.rglob("*.txt"))
