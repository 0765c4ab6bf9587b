"""Files are whole or not there, and never written through a link."""

from contextlib import suppress

import pytest

from icot.errors import RunError
from icot.system.files import link, remove_partial_files, replace_file, write_text


def test_an_error_on_the_way_leaves_the_former_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "first")
    with suppress(ZeroDivisionError), replace_file(path) as file:
        file.write("second")
        raise ZeroDivisionError
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("untouched")
    path = tmp_path / "a.txt"
    path.symlink_to(outside)
    write_text(path, "own")
    assert (path.read_text(), path.is_symlink()) == ("own", False)
    assert outside.read_text() == "untouched"


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/a\.txt: cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_a_second_name_outlives_the_first(tmp_path):
    write_text(tmp_path / "new", "1")
    write_text(tmp_path / "old", "0")
    link(tmp_path / "new", tmp_path / "old")
    write_text(tmp_path / "new", "2")
    assert (tmp_path / "old").read_text() == "1"


def test_what_killed_processes_left_is_removed(tmp_path):
    (tmp_path / ".a.ckpt.17.partial").write_text("half")
    (tmp_path / "a.ckpt").write_text("whole")
    remove_partial_files(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
