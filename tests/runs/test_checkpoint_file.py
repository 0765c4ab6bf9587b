"""A checkpoint tells whether it is intact and runs no code; a failed write leaves the former."""

import os
import pickle
import resource
import zipfile

import pytest
import torch

from icot.errors import RunError
from icot.runs import checkpoint_file

CONTENT = {"state_dict": {"model.a": torch.arange(3000.0)}, "rows": [{"x": 1, "y": None}], "n": 0.5}


def test_it_is_read_as_it_was_written_also_by_others(tmp_path):
    path = tmp_path / "a.ckpt"
    checkpoint_file.save(CONTENT, path)
    for read in (checkpoint_file.load(path), torch.load(path, weights_only=True)):
        assert torch.equal(read["state_dict"]["model.a"], torch.arange(3000.0))
        assert read["rows"] == [{"x": 1, "y": None}]
    assert zipfile.ZipFile(path).testzip() is None
    assert zipfile.ZipFile(path).comment.startswith(b"sha256:")
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_every_kind_of_alteration_is_noticed(tmp_path):
    path = tmp_path / "a.ckpt"
    checkpoint_file.save(CONTENT, path)
    whole = path.read_bytes()
    for position in (*range(0, len(whole), 97), len(whole) - 1, len(whole) - 71, len(whole) - 73):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert not checkpoint_file.is_intact(path), position
    for length in (0, 1, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not checkpoint_file.is_intact(path), length
    path.write_bytes(whole + b"x")
    assert not checkpoint_file.is_intact(path)
    for damaged in (whole[:500] + bytes([whole[500] ^ 1]) + whole[501:], whole[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"a\.ckpt: (damaged|is not a checkpoint)"):
            checkpoint_file.load(path)
    path.write_bytes(whole)
    assert checkpoint_file.is_intact(path)


def test_a_file_that_brings_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was run"),)

    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "x": Evil()}, path)
    with pytest.raises(RunError, match="is not a checkpoint of icot"):
        checkpoint_file.load(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(RunError, match="is not a checkpoint of icot"):
        checkpoint_file.load(path)
    assert not (tmp_path / "was run").exists()


def test_a_write_that_fails_leaves_the_former_file(tmp_path):
    path = tmp_path / "a.ckpt"
    checkpoint_file.save({"n": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(RunError, match=r"a\.ckpt: cannot be written \(File too large\)"):
            checkpoint_file.save(CONTENT, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint_file.load(path) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
