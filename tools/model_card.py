"""Writes the held-out figures of the bundled model into its card, docs/models.md.

``python tools/model_card.py``; they stand in the history of the model file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_seg.models.catalog import read_spec

CARD = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN = "<!-- figures: python tools/model_card.py -->\n"
END = "<!-- end of figures -->"
_UNSEEN = (
    "3-D fluorescence of a mouse embryo (Tokuoka et al. 2020), a kind not trained on, "
    "plane by plane"
)


def figures(name: str = "nuclei") -> str:
    """Return the figures as Markdown; empty where the model file holds none."""
    runs = [run for run in read_spec(name).history if "holdout_dice" in run]
    return _table(runs[-1]) if runs else ""


def _table(run: dict[str, Any]) -> str:
    images = run.get("holdout_images", {})
    rows = [
        f"| {experiment.replace('x', ' × ')} | {images.get(experiment, '–')} | "
        f"{dice:.3f} |"
        for experiment, dice in run["holdout_dice"].items()
    ]
    unseen = run.get("embryo_nuclei_3d_dice")
    if unseen is not None:
        rows.append(f"| {_UNSEEN} | 1 stack | {unseen:.3f} |")
    return "\n".join(
        [
            f"Dice of the class *nucleus* after {run['steps']} of "
            f"{run.get('planned_steps', run['steps'])} planned steps, seed "
            f"{run['seed']}: the mean over",
            "the held-out images, which are every eighth of each experiment (modality",
            "and image size in pixels).",
            "",
            "| experiment | held-out images | Dice |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def with_figures(card: str) -> str:
    """Return the text of the card with the figures of the model file."""
    head, _, rest = card.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{figures()}\n{END}{tail}" if figures() else card


if __name__ == "__main__":
    CARD.write_text(with_figures(CARD.read_text(encoding="utf-8")), encoding="utf-8")
