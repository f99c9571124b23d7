"""The public names.

Oracle: this list. Sees: a name that comes or goes unnoticed, a function hidden by a subpackage of its name.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import siglip_verify

PUBLIC = ["Case", "LossSpec", "Report", "SigLipLoss", "assert_equivalent", "check"]


def test_the_public_names_are_these_and_all_are_there() -> None:
    assert siglip_verify.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(siglip_verify))
    for name in PUBLIC:
        assert callable(getattr(siglip_verify, name))


def test_no_subpackage_hides_a_public_name() -> None:
    parts = {module.name for module in pkgutil.iter_modules(siglip_verify.__path__)}
    assert parts.isdisjoint(PUBLIC)


def test_every_folder_exports_what_its_all_says_sorted() -> None:
    for module in pkgutil.walk_packages(siglip_verify.__path__, "siglip_verify."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            names = getattr(package, "__all__", [])
            assert list(names) == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)), (
                module
            )
            assert all(hasattr(package, name) for name in names)


def test_the_loss_runs_when_it_is_copied_out(tmp_path: Path) -> None:
    source = Path(siglip_verify.__path__[0]) / "loss"
    for path in source.rglob("*.py"):
        copy = tmp_path / "copied" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    code = (
        "import sys, torch; from copied import SigLipLoss; x = torch.eye(3); SigLipLoss()(x, x, 1.0, 0.0).item();"
        "assert not any(name.startswith('siglip_verify') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
