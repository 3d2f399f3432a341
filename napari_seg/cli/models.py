"""``napari-seg models``: what there is to start from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_seg.cli.arguments import add_json
from napari_seg.cli.report import Report, note, table
from napari_seg.errors import InputError

if TYPE_CHECKING:
    from napari_seg.models.spec import ModelSpec

__all__ = ["add_arguments", "run"]

#: More classes than these are not all named in the table.
_MOST_NAMES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_json(parser)


def run(given: argparse.Namespace) -> Report:
    """List bundled, saved and published models, then the architectures."""
    entries = [*_files(), *_published(), *_architectures()]
    return Report(_text(entries), {"models": entries})


def _text(entries: list[dict[str, Any]]) -> str:
    heading = ("name", "arch", "encoder", "in", "classes", "parameters", "source")
    rows = [
        (
            entry["name"],
            entry["arch"],
            " | ".join(entry.get("encoders", [entry["encoder"] or "-"])),
            str(entry["in_channels"]),
            _class_names(entry["classes"]),
            f"{entry['parameters'] / 1e6:.1f} M",
            _source(entry),
        )
        for entry in entries
    ]
    return table([heading, *rows])


def _class_names(names: Sequence[str]) -> str:
    """Return the names, or the first of many."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:3])}, ... ({len(names)})"


def _source(entry: dict[str, Any]) -> str:
    if "megabytes" not in entry:
        return str(entry["source"])
    state = "here" if entry["fetched"] else "fetched on first use"
    return f"{entry['source']}, {entry['megabytes']} MB, {state}"


def _files() -> Iterator[dict[str, Any]]:
    """Yield what the model files in the package and in the user's folder hold."""
    from napari_seg.models.catalog import SUFFIX, bundled_models, read_spec
    from napari_seg.resources import user_folder

    bundled = [(path, "bundled") for path in bundled_models().values()]
    saved = sorted((user_folder() / "models").glob(f"*{SUFFIX}"))
    for path, source in [*bundled, *((path, str(path)) for path in saved)]:
        try:
            yield _entry(path.stem, read_spec(path), source)
        except InputError as error:
            note(f"{path} left out: {error}")


def _published() -> Iterator[dict[str, Any]]:
    """Yield the models that others publish, whether they were fetched or not."""
    from napari_seg.models.published import MODELS

    for name, model in MODELS.items():
        yield {
            **_entry(name, model.spec, "published"),
            "megabytes": model.file.megabytes,
            "fetched": model.path.exists(),
        }


def _architectures() -> Iterator[dict[str, Any]]:
    """Yield each architecture with its default encoder, and name those that fit."""
    import torch

    from napari_seg.models.registry import architectures, create_model

    for name, architecture in architectures().items():
        # Tensors of this device have a shape, and no memory.
        with torch.device("meta"):
            spec = create_model(name).spec
        encoders = [encoder or "-" for encoder in architecture.encoders]
        yield {**_entry(name, spec, "architecture"), "encoders": encoders}


def _entry(name: str, spec: ModelSpec, source: str | Path) -> dict[str, Any]:
    import torch

    from napari_seg.models.registry import build, parameter_count

    with torch.device("meta"):
        parameters = parameter_count(build(spec))
    return {
        "name": name,
        "arch": spec.arch,
        "encoder": spec.encoder,
        "classes": spec.classes,
        "in_channels": spec.in_channels,
        "parameters": parameters,
        "source": source,
    }
