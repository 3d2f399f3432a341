"""What the documents say is there, runs, and parses."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from napari_seg.cli.parser import COMMANDS, build_parser
from napari_seg.models.registry import unregister_model

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "sample_data" / "README.md"]
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
#: Budgets of the documents, and what the tests spend instead.
BUDGET = re.compile(r"\bminutes=[\d.]+")


def _text(page: str | Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _blocks(page: str | Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(_text(page)) if kind == language]


def _anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a page."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        assert file.is_relative_to(ROOT)
        assert not anchor or anchor in _anchors(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_marker_is_left(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"TODO|TBD|FIXME|XXX|^@\w", text, re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")],
    ids=lambda page: page.name,
)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page run one after the other, with a budget of two steps."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(_blocks(page.relative_to(ROOT), "python"))
    exec(compile(BUDGET.sub("steps=2", code), page, "exec"), {})
    # Which a page may have registered.
    unregister_model("mine")


def test_every_page_is_in_the_site():
    told = yaml.safe_load(_text("mkdocs.yml"))["nav"]
    listed = {page for entry in told for page in entry.values()}
    assert listed >= {path.name for path in ROOT.glob("docs/*.md")}


def test_scores_are_those_that_the_page_tells():
    code = "\n".join(_blocks("docs/scores.md", "python"))
    names: dict[str, object] = {}
    for line in code.splitlines():
        value, _, told = line.partition("#")
        if not told:
            exec(line, names)
            continue
        shown = eval(re.sub(r"^print\((.*)\)\s*$", r"\1", value.strip()), names)
        expected = re.sub(r"(?<=[\d.\]])\s+(?=[\d\[])", ", ", told.strip())
        np.testing.assert_allclose(shown, ast.literal_eval(expected), atol=1e-8)


@pytest.fixture
def example_folders(tmp_path, monkeypatch) -> Path:
    """Go to a folder with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "truth", "masks", "nuclei/images", "nuclei/labels"):
        Path(folder).mkdir(parents=True)
    tifffile.imwrite("nuclei/images/0.tif", np.zeros((32, 32), np.uint8))
    return tmp_path


def _commands(page: str) -> list[str]:
    lines = "\n".join(code for _, code in BLOCK.findall(_text(page))).splitlines()
    plain = (line.removeprefix("$ ").partition("  #")[0] for line in lines)
    return [line for line in plain if line.startswith("napari-seg ")]


@pytest.mark.parametrize("page", ["README.md", "docs/command-line.md"])
def test_commands_parse(page, example_folders):
    commands = _commands(page)
    assert commands
    for command in commands:
        build_parser().parse_args(shlex.split(command)[1:])


def test_every_command_has_its_section():
    headings = re.findall(r"^## (\S+)$", _text("docs/command-line.md"), re.MULTILINE)
    assert set(COMMANDS) <= set(headings)


def test_options_that_the_page_names_exist(capsys):
    """Of each section, against the command's own help."""
    prose = BLOCK.sub("", _text("docs/command-line.md"))
    parts = re.split(r"^## (\S+)$", prose, flags=re.MULTILINE)
    for command, section in zip(parts[1::2], parts[2::2], strict=True):
        with pytest.raises(SystemExit):
            build_parser().parse_args([command, "--help"])
        told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section))
        known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert told <= known | {"--debug", "--help"}, command


def _strings(folder: str) -> set[str]:
    """Return every string in the source of a folder; read, not imported."""
    found: set[str] = set()
    for file in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
        found |= {node.value for node in constants if isinstance(node.value, str)}
    return found


def test_object_names_in_the_user_guide_exist():
    suffixes = "button|combo|label|list|table|plot|bar|card|minutes|predict|finetune"
    names = set(re.findall(rf"`([a-z_]+_(?:{suffixes}))`", _text("docs/user-guide.md")))
    assert len(names) > 20
    assert names <= _strings("napari_seg/_qt")


@pytest.mark.parametrize("page", ["README.md", "docs/user-guide.md"])
def test_buttons_are_called_what_they_are_called(page):
    known = _strings("napari_seg/_qt")
    text = " ".join(_text(page).split())
    said = set(re.findall(r"(?i)press \*\*([^*]+)\*\*", text))
    assert said
    assert said <= known, said - known


def test_figures_in_the_model_card_are_those_of_the_model_file():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from model_card import figures, with_figures
    finally:
        sys.path.pop(0)
    assert figures("nuclei")
    card = _text("docs/models.md")
    assert with_figures(card).split() == card.split()


def test_picture_of_the_readme_is_small():
    picture = ROOT / "docs" / "images" / "dock.png"
    assert 20_000 < picture.stat().st_size < 500_000
