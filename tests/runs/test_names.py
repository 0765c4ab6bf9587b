"""Names of run directories that stand side by side."""

from pathlib import Path

from icot.runs.evaluations import slug
from icot.runs.names import name_folders


def test_parents_are_added_where_names_clash(tmp_path):
    folders = ["A/no_cot/0", "A/no_cot_b/0", "A/icot", "B/no_cot/0"]
    names = ["A/no_cot/0", "no_cot_b/0", "icot", "B/no_cot/0"]
    assert name_folders([tmp_path / folder for folder in folders]) == names


def test_a_folder_that_is_given_twice_gets_a_number(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert name_folders([".", tmp_path / "run", "../run"]) == ["run", "run (2)", "run (3)"]


def test_names_differ_as_they_are_written(tmp_path):
    folders = [tmp_path / "x" / "a b", tmp_path / "y" / "a-b", tmp_path / "a,b"]
    names = name_folders(folders, slug)
    assert names[:2] == ["x-a-b", "y-a-b"]
    assert names[2] == slug(f"{tmp_path.name}/a,b")
    assert name_folders(["/a b", "/a-b"], slug) == ["a-b", "a-b-2"]


def test_a_taken_name_is_given_to_none():
    assert name_folders([Path("/A/icot/0"), Path("/A/B")], slug, str.isdecimal) == ["icot-0", "B"]
    assert name_folders(["/0"], slug, str.isdecimal) == ["0-2"]
