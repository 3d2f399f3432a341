"""The commands and their parser."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any, NoReturn

from napari_seg import __version__
from napari_seg.errors import InputError

__all__ = ["COMMANDS", "build_parser"]

#: Each command, a module of this package, and what it does.
COMMANDS = {
    "open": "open napari with images and the dock (also without any argument)",
    "demo": "open a real sample with a prediction; --tour plays the whole loop",
    "models": "list the architectures and the models known here",
    "train": "train a model from scratch on labelled images",
    "predict": "segment images",
    "score": "compare masks: IoU and Dice for each class",
    "measure": "measure objects: size, place, shape and intensity, as a table",
    "convert": "bring masks and objects into the formats of other programs, and back",
    "finetune": "fine-tune a model on partly labelled images",
    "export": "write a model for other programs: ONNX, TorchScript, BioImage Model Zoo",
    "doctor": "check this installation, and say what to install",
}


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of exiting, so that errors have one way out."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. See: {self.prog} --help")


class _CommandParser(_Parser):
    """The parser of one command, which loads the command's module when it is used."""

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        command = import_module(f"napari_seg.cli.{self.prog.split()[-1]}")
        command.add_arguments(self)
        self.add_argument(
            "--debug", action="store_true", help="show where an error arises"
        )
        self.set_defaults(run=command.run)
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the namespace that it gives has ``run``, the command."""
    parser = _Parser(
        prog="napari-seg",
        description="Semantic segmentation: predict, correct, score, fine-tune.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=_CommandParser
    )
    for name, summary in COMMANDS.items():
        commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            allow_abbrev=False,
        )
    return parser
