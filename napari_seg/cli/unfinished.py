"""What a call of ``predict`` had finished when it was interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_seg.corrections.lock import WriterLock
from napari_seg.errors import InputError
from napari_seg.folders import is_zarr

__all__ = ["Unfinished", "identity"]

_NAME = ".napari-seg-predict"


class Unfinished:
    """A record in the output folder, a line for each step; gone once all is done.

    Parameters
    ----------
    folder : Path
        Where masks go; it exists.
    settings : str
        Identifies model and options. A record of others is of no use.

    Raises
    ------
    InputError
        If another program works on this folder.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self._path = folder / f"{_NAME}.jsonl"
        self._lock_path = folder / f"{_NAME}.lock"
        self._lock = WriterLock(self._lock_path)
        if not self._lock.acquire():
            raise InputError(
                f"Another napari-seg predict ({self._lock.holder()}) writes to "
                f"{folder}; wait for it, or choose another -o."
            )
        self._begun: dict[str, dict[str, Any]] = {}
        self._given_up: list[str] = []
        self._blocks: dict[str, dict[int, list[int]]] = {}
        self._outputs: dict[str, dict[str, Any]] = {}
        known = self._read()
        if known and known[0].get("settings") == settings:
            for entry in known[1:]:
                self._take(entry)
        else:
            for entry in known:
                _remove(entry.get("parts", ()), folder)
            self._path.unlink(missing_ok=True)
        self._file = self._path.open("a", encoding="utf-8")
        if not (self._begun or self._outputs):
            self._write({"settings": settings})

    @property
    def told(self) -> str:
        """What an earlier call left, for people; empty if there was none."""
        if not (self._begun or self._outputs):
            return ""
        blocks = sum(map(len, self._blocks.values()))
        return (
            f"going on where an earlier call ended: {len(self._outputs)} images are "
            f"done, and {blocks} blocks of others."
        )

    def output(self, image: Path) -> dict[str, Any] | None:
        """Return what was said of an image that is finished, and has not changed."""
        output = self._outputs.get(str(image))
        if output is None or not self._is_same(image, output["identity"]):
            return None
        said: dict[str, Any] = output["said"]
        return said if Path(said["mask"]).exists() else None

    def plan(self, image: Path) -> dict[str, Any] | None:
        """Return how an image was being predicted, if it can be gone on with."""
        begun = self._begun.get(str(image))
        if begun is None or not self._is_same(image, begun["identity"]):
            return None
        plan: dict[str, Any] = begun["plan"]
        return plan if all(Path(part).exists() for part in begun["parts"]) else None

    def blocks(self, image: Path) -> dict[int, list[int]]:
        """Return the finished blocks of an image, and the pixels of each class."""
        return self._blocks.get(str(image), {})

    def begin(self, image: Path, plan: dict[str, Any], parts: Sequence[Path]) -> None:
        """Note how an image is predicted, and where its masks grow."""
        entry = {"begin": str(image), "identity": identity(image), "plan": plan}
        self._note(entry | {"parts": [str(part) for part in parts]})

    def finish_block(self, image: Path, block: int, pixels: list[int]) -> None:
        """Note that a block was written."""
        self._note({"block": block, "image": str(image), "pixels": pixels})

    def finish(self, image: Path, said: dict[str, Any]) -> None:
        """Note that an image is finished, and what ``predict --json`` says of it."""
        entry = {"finish": str(image), "identity": identity(image), "said": said}
        self._note(json.loads(json.dumps(entry, default=str)))

    def give_up(self, image: Path) -> None:
        """Remove what was made of an image that cannot be predicted."""
        begun = self._begun.get(str(image), {})
        self._given_up.extend(begun.get("parts", ()))
        self.sweep()
        self._note({"give up": str(image)})

    def sweep(self) -> None:
        """Remove what was made of given-up images, also by blocks that went on."""
        _remove(self._given_up, self._path.parent)

    def complete(self) -> None:
        """Remove the record: all is done."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others write to the folder."""
        self._file.close()
        self._lock.release()
        self._lock_path.unlink(missing_ok=True)

    def _note(self, entry: dict[str, Any]) -> None:
        self._take(entry)
        self._write(entry)

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def _take(self, entry: dict[str, Any]) -> None:
        if "begin" in entry:
            self._begun[entry["begin"]] = entry
            self._blocks[entry["begin"]] = {}
        elif "block" in entry:
            self._blocks[entry["image"]][entry["block"]] = entry["pixels"]
        elif "finish" in entry:
            self._outputs[entry["finish"]] = entry
            self._drop(entry["finish"])
        elif "give up" in entry:
            self._drop(entry["give up"])

    def _drop(self, image: str) -> None:
        self._begun.pop(image, None)
        self._blocks.pop(image, None)

    def _read(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        entries = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                # The last line of a program that was killed as it wrote.
                break
        return entries

    @staticmethod
    def _is_same(image: Path, known: list[int]) -> bool:
        return image.exists() and identity(image) == known


def identity(image: Path) -> list[int]:
    """Return what changes when an image is replaced."""
    told = [image]
    if is_zarr(image):
        names = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
        told = [image / name for name in names if (image / name).exists()]
    stats = [path.stat() for path in told]
    return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]


def _remove(parts: Sequence[str], folder: Path) -> None:
    for part in map(Path, parts):
        if part.name.endswith(".part") and folder in part.parents:
            shutil.rmtree(part, ignore_errors=True)
