"""Writes the held-out figures of the bundled model into its card, docs/models.md.

``python tools/model_card.py``; they stand in the model file, where the training script
left them.
"""

from __future__ import annotations

from pathlib import Path

from napari_seg.models.catalog import read_spec

CARD = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN = "<!-- figures: python tools/model_card.py -->\n"
END = "<!-- end of figures -->"


def figures(name: str = "nuclei") -> str:
    """Return the figures as Markdown; empty where the model file holds none."""
    runs = [run for run in read_spec(name).history if "holdout_dice" in run]
    if not runs:
        return ""
    run = runs[-1]
    rows = [
        f"| {experiment.replace('x', ' × ')} | {dice:.3f} |"
        for experiment, dice in run["holdout_dice"].items()
    ]
    return "\n".join(
        [
            f"Dice of the class *nucleus* after {run['steps']} steps, seed "
            f"{run['seed']}: the mean over the",
            "images of each experiment (modality and image size in pixels), of which",
            "every eighth was held out.",
            "",
            "| experiment | Dice |",
            "|---|---|",
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
