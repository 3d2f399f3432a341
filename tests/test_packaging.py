"""Every way of installing brings the plugin, its samples and its models."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_seg

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = PluginManifest.from_file(ROOT / "napari.yaml")

# Run in an installation, in a folder from which no checkout can be seen.
_REPORT = """
import json
from importlib.metadata import entry_points, metadata, version
from pathlib import Path

import napari_seg
from napari_seg.resources import bundled_models_folder, sample_folder
from npe2 import PluginManager

plugins = PluginManager()
plugins.discover()
given = plugins.get_manifest("napari-seg").contributions
names = lambda folder: sorted(
    str(path.relative_to(folder))
    for path in folder.rglob("*")
    # pip compiles what it installs.
    if path.is_file() and path.suffix != ".pyc"
)
(script,) = entry_points(group="console_scripts", name="napari-seg")
package = Path(napari_seg.__file__).parent
print(json.dumps({
    "package": str(package),
    "manifest": (package / "napari.yaml").read_text(),
    "version": version("napari-seg"),
    "script": script.value,
    "readme": metadata("napari-seg").get_payload(),
    "typed": (package / "py.typed").exists(),
    "widgets": [widget.display_name for widget in given.widgets],
    "samples": [sample.key for sample in given.sample_data],
    "writers": [writer.command for writer in given.writers],
    "sample_files": names(sample_folder()),
    "model_files": names(bundled_models_folder()),
}))
"""


def _files(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".DS_Store" and path.suffix != ".pyc"
    )


def _run(*command: str | os.PathLike[str], cwd: Path) -> str:
    # PYTHONPATH could show the checkout to an installation.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the sdist, the wheel made from it and the wheel made from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir")
    _run(*build, out / "sdist", ROOT, cwd=out)
    _run(*build, out / "direct", "--wheel", ROOT, cwd=out)
    (sdist,) = (out / "sdist").glob("*.tar.gz")
    (through,) = (out / "sdist").glob("*.whl")
    (direct,) = (out / "direct").glob("*.whl")
    return {"sdist": sdist, "wheel of the sdist": through, "wheel": direct}


def _install(folder: Path, *what: str | os.PathLike[str]) -> dict[str, object]:
    """Install into a new environment that borrows our dependencies; report on it."""
    venv.create(folder / "env", with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = folder / "env" / scripts / "python"
    purelib = _run(
        python,
        "-c",
        "import sysconfig; print(sysconfig.get_path('purelib'))",
        cwd=folder,
    )
    # A .pth file inside a folder named by a .pth file is not read: the checkout that
    # is installed in our own environment stays unseen.
    ours = sysconfig.get_path("purelib")
    Path(purelib.strip(), "borrowed.pth").write_text(ours + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    _run(*pip, "--no-index", "--no-deps", "--no-build-isolation", *what, cwd=folder)
    return json.loads(_run(python, "-c", _REPORT, cwd=folder))


@pytest.fixture(
    scope="module", params=["sdist", "wheel of the sdist", "wheel", "editable"]
)
def installed(
    request: pytest.FixtureRequest,
    built: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("install")
    if request.param == "editable":
        report = _install(folder, "--editable", ROOT)
        assert Path(report["package"]) == ROOT / "napari_seg"
    else:
        report = _install(folder, built[request.param])
        assert folder in Path(report["package"]).parents
    return report


def test_plugin_is_found(installed):
    assert installed["widgets"] == ["Segmentation"]
    assert installed["samples"] == ["ihc", "retina", "cell", "nuclei"]
    assert installed["writers"] == ["napari-seg.write_masks"]


def test_manifest_in_the_package_is_the_one_at_the_top(installed):
    assert installed["manifest"] == (ROOT / "napari.yaml").read_text()


def test_version_script_and_types(installed):
    assert installed["version"] == napari_seg.__version__
    assert installed["script"] == "napari_seg.cli:main"
    assert installed["typed"]


def test_readme_is_the_long_description(installed):
    assert installed["readme"].strip() == (ROOT / "README.md").read_text().strip()


def test_samples_and_models_come_along(installed):
    assert installed["sample_files"] == _files(ROOT / "sample_data")
    bundled = ROOT / "napari_seg" / "models" / "bundled"
    assert installed["model_files"] == _files(bundled)


def test_manifest_in_the_checkout_is_a_relative_link():
    assert os.readlink(ROOT / "napari_seg" / "napari.yaml") == "../napari.yaml"


@pytest.mark.parametrize(
    "target", sorted({c.python_name for c in MANIFEST.contributions.commands})
)
def test_command_has_its_function(target):
    """Read, not run: the widget's module loads Qt."""
    module, _, name = target.partition(":")
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    body = ast.parse(source.read_text()).body
    kinds = (ast.FunctionDef, ast.ClassDef)
    assert name in {node.name for node in body if isinstance(node, kinds)}


def test_no_qt_binding_among_the_plain_dependencies():
    metadata = ast.literal_eval(
        _run(
            sys.executable,
            "-c",
            "from importlib.metadata import requires; print(requires('napari-seg'))",
            cwd=ROOT.parent,
        )
    )
    plain = [line.lower() for line in metadata if "extra ==" not in line]
    assert plain
    assert not [line for line in plain if line.startswith(("pyqt5", "pyqt6", "pyside"))]
