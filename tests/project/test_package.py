"""The package as it is handed out: what is in it, and that it works where the repository is not.

Oracle: the working tree, and a process that has only the wheel. Sees: a template, schema or entry point that is left
out, code that leans on the repository. The environment borrows its dependencies from this one; `make package` installs
them into an empty one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling import build

import siglip_verify

ROOT = Path(__file__).parents[2]
PACKAGE = Path(siglip_verify.__path__[0])
pytestmark = pytest.mark.xdist_group("package")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build wheel and sdist of the working tree."""
    folder = tmp_path_factory.mktemp("dist")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        build.build_wheel(str(folder))
        build.build_sdist(str(folder))
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own, and return the folder of its commands."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", environment / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read
    return environment / "bin"


def run(command: list[str | Path], folder: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GITHUB_STEP_SUMMARY")}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".pyi")]
    assert held == {str(path.relative_to(PACKAGE.parent)) for path in there}
    assert {
        "siglip_verify/py.typed",
        "siglip_verify/report/report.schema.json",
        "siglip_verify/report/messages.schema.json",
        "siglip_verify/report/html/templates/page.html.j2",
        "siglip_verify/report/html/templates/page.css",
    } <= held


def test_the_wheel_says_what_it_offers_and_under_which_licence(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    files = {name.partition(".dist-info/")[2]: name for name in zipfile.ZipFile(wheel).namelist()}
    entry_points = zipfile.ZipFile(wheel).read(files["entry_points.txt"]).decode()
    assert "siglip-verify = siglip_verify.cli:main" in entry_points
    assert "siglip_verify = siglip_verify.pytest_plugin" in entry_points
    assert "licenses/LICENSE" in files


def test_the_sdist_has_what_builds_tests_and_explains_it(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt", "CHANGELOG.md"} <= names
    assert {"docs/exchanges.md", "docs/pictures/hops-bidir.svg", "examples/ci/siglip-verify.yml"} <= names
    assert {"tests/conftest.py", "siglip_verify/report/html/templates/page.html.j2"} <= names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith((".venv", "reports/report"))]


@pytest.mark.long
def test_outside_the_repository_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    assert run([installed / "siglip-verify", "--version"], tmp_path).strip() == "0.1.0"
    place = run([installed / "python", "-c", "import siglip_verify; print(siglip_verify.__path__[0])"], tmp_path)
    assert Path(place.strip()).is_relative_to(installed.parent)


@pytest.mark.long
def test_outside_the_repository_the_wheel_checks_and_renders_again(installed: Path, tmp_path: Path) -> None:
    run([installed / "siglip-verify", "check", "--examples", "20", "--report-dir", "reports"], tmp_path)
    report = json.loads((tmp_path / "reports" / "report.json").read_text())
    assert report["verdict"] == "pass"
    again = ["report", "reports/report.json", "--format", "html", "--report-dir", "again"]
    run([installed / "siglip-verify", *again], tmp_path)
    pages = [(tmp_path / folder / "report.html").read_bytes() for folder in ("reports", "again")]
    assert pages[0] == pages[1]
