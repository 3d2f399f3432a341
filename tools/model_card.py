"""Writes the figures of the bundled models into their cards, docs/models.md.

``python tools/model_card.py``; they stand in the histories of the model files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_seg.models.catalog import bundled_models, read_spec

CARD = Path(__file__).resolve().parents[1] / "docs" / "models.md"
_BEGIN = "<!-- figures of {name}: python tools/model_card.py -->\n"
_END = "<!-- end of figures of {name} -->"


def figures(name: str) -> str:
    """Return the figures of a model as Markdown; empty where its file holds none.

    Those of runs that left something out, and of the last run.
    """
    history, tables, steps = read_spec(name).history, [], 0
    for run in history:
        steps += run["steps"]
        if "otsu_dice" in run and (run["left_out"] or run is history[-1]):
            tables.append(_table(run, steps))
    return "\n".join(tables)


def _table(run: dict[str, Any], steps: int) -> str:
    left_out = run["left_out"]
    title = f"After {steps} steps, with all experiments."
    if left_out:
        names = ", ".join(map(_spelled, left_out))
        title = f"After {steps} steps, without a single image of: {names}."
    images, otsu = run["holdout_images"], run["otsu_dice"]
    rows = [
        f"| {_spelled(name)}{', never seen' * (name in left_out)} | {images[name]} | "
        f"{dice:.3f} | {otsu[name]:.3f} |"
        for name, dice in run["holdout_dice"].items()
    ]
    head = ["| experiment | images | Dice | Otsu |", "|---|---|---|---|"]
    return "\n".join([title, "", *head, *rows, ""])


def _spelled(experiment: str) -> str:
    return experiment.replace("x", " × ")


def with_figures(card: str) -> str:
    """Return the text of the card with the figures of the model files."""
    for name in bundled_models():
        begin, end = _BEGIN.format(name=name), _END.format(name=name)
        if begin in card and figures(name):
            head, _, rest = card.partition(begin)
            _, _, tail = rest.partition(end)
            card = f"{head}{begin}\n{figures(name)}\n{end}{tail}"
    return card


if __name__ == "__main__":
    CARD.write_text(with_figures(CARD.read_text(encoding="utf-8")), encoding="utf-8")
