"""Takes pages into the documentation that lie elsewhere in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
#: File of the repository → its page.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "results.md",
    "sample_data/README.md": "samples.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_moved(text, ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links out of `docs` lead to these pages."""
    if page.file.src_uri in PAGES.values():
        return markdown
    return _moved(markdown, ROOT / "docs" / page.file.src_uri)


def _moved(text: str, source: Path) -> str:
    def link(found: re.Match[str]) -> str:
        image, words, target, anchor = found.groups()
        page = _page(target, source)
        # What is in the repository alone, such as code, is only named.
        return words if page is None else f"{image}[{words}]({page}{anchor or ''})"

    return _LINK.sub(link, text)


def _page(target: str, source: Path) -> str | None:
    path = (source.parent / target).resolve()
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES:
        return PAGES[name]
    return name.removeprefix("docs/") if name.startswith("docs/") else None
