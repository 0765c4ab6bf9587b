"""A wheel holds the configuration, so that the commands work outside a clone; what is installed."""

import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_a_wheel_works_outside_the_clone(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(REPOSITORY)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("icot-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    shipped = {
        f"icot/conf/{p.relative_to(REPOSITORY / 'conf')}"
        for p in (REPOSITORY / "conf").rglob("*.yaml")
    }
    assert shipped <= names
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
        "sys.argv = ['train', '--cfg', 'job']; "
        "runpy.run_module('icot.train', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "smoothing_lambda" in done.stdout


def test_the_browser_s_driver_is_installed_where_all_tests_run():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = map(Requirement, project["optional-dependencies"]["dev"])
    (driver,) = [one for one in wanted if one.name == "playwright"]
    pins = dict(
        line.split("==")
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert driver.specifier.contains(pins["playwright"])
