"""Packages of the BioImage Model Zoo: other programs predict what we predict."""

from __future__ import annotations

import copy
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import yaml

import napari_seg
from napari_seg.errors import ImageError, InputError
from napari_seg.models.spec import Normalization
from napari_seg.synthetic import synthetic_nuclei
from napari_seg.zoo.package import export_bioimage

TOLD = {"authors": ["Ada Byron"], "license": "CC-BY-4.0"}


@pytest.fixture
def image():
    return synthetic_nuclei((160, 144), n=12).image


SCALES = {
    "percentiles": Normalization(),
    "other percentiles": Normalization(5.0, 90.0),
    "photographs": Normalization(full_range=True, mean=(0.4, 0.5), std=(0.2, 0.3)),
    "one mean": Normalization(mean=(0.4,), std=(0.2,)),
}
CASES = [
    ("percentiles", "int32"),
    ("other percentiles", "float32"),
    ("photographs", "uint8"),
    ("photographs", "uint16"),
    ("one mean", "uint16"),
]


def test_other_programs_predict_the_same(peer, small_unet, tmp_path):
    """For each way in which intensities are scaled."""
    image = synthetic_nuclei((160, 144), n=12).image
    two = np.stack([image, image[::-1] * 3 + 70], axis=-1)
    ours = {}
    for scale, dtype in CASES:
        model = copy.deepcopy(small_unet)
        model.spec = replace(model.spec, normalization=SCALES[scale], temperature=1.7)
        given = (two / two.max() * 255 if dtype == "uint8" else two).astype(dtype)
        ours[f"{scale} {dtype}"] = _ask(
            peer, f"{scale} {dtype}", model, given, tmp_path
        )
    _compare(peer, ours, tmp_path / "answers")


def _ask(peer, name, model, image, folder):
    """Let the peer predict an image, and return our own prediction."""
    path = export_bioimage(model, folder / f"{name}.zip", example=image, **TOLD)
    plane = image[np.newaxis] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    peer.ask(name, path, plane.repeat(model.spec.in_channels // len(plane), 0)[None])
    return napari_seg.predict(model, image, confidence=True)


def _compare(peer, ours, answers):
    peer.work(answers)
    for name, mine in ours.items():
        theirs = np.load(answers / f"{name}.npy")[0]
        np.testing.assert_allclose(theirs.max(0), mine.confidence, atol=1e-4)
        second, first = np.sort(theirs, axis=0)[-2:]
        clear = first - second > 1e-4
        assert clear.mean() > 0.9
        assert np.array_equal(theirs.argmax(0)[clear], mine.labels[clear]), name


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_bundled_model_passes_the_tests_of_the_zoo(peer, small_deeplab, tmp_path):
    large = synthetic_nuclei((352, 336)).image
    model = napari_seg.load_model("nuclei")
    image = synthetic_nuclei((192, 208), seed=3).image
    ours = {
        "nuclei": _ask(peer, "nuclei", model, image, tmp_path),
        "deeplab": _ask(peer, "deeplab", small_deeplab, large, tmp_path),
    }
    peer.ask("tests", tmp_path / "nuclei.zip")
    _compare(peer, ours, tmp_path / "answers")
    status, summary = json.loads((tmp_path / "answers" / "tests").read_text())
    assert status == "passed", summary


def test_package_holds_what_people_need(bioimageio, small_unet, image, tmp_path):
    spec = replace(small_unet.spec, pixel_size=0.5).with_history(
        {"regions": ["secret"]}
    )
    model, small_unet.spec = small_unet, spec
    two = np.stack([image, image], axis=-1)
    path = export_bioimage(
        model,
        tmp_path / "a.zip",
        example=two,
        name="Zellen (µm)",
        documentation="Trained on **hope**.",
        description="Finds cells",
        cite=[{"text": "A paper", "doi": "10.1038/s41592-019-0612-7"}],
        **TOLD,
    )
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        (described,) = names & {"rdf.yaml", "bioimageio.yaml"}
        text = archive.read(described).decode()
        readme = archive.read("README.md").decode()
        width, height = np.frombuffer(archive.read("cover.png")[16:24], ">u4")
    assert {"weights.onnx", "weights.pt", "test_input.npy"} <= names
    assert (width, height) == (512, 256)
    assert "secret" not in text
    assert "Trained on **hope**." in readme
    told = yaml.safe_load(text)
    assert told["name"] == "Zellen (-m)"
    assert told["format_version"].startswith("0.5")
    y = told["inputs"][0]["axes"][2]
    assert y["size"] == {"min": 32, "step": 4}
    assert (y["scale"], y["unit"]) == (0.5, "micrometer")
    assert told["outputs"][0]["axes"][2]["halo"] == small_unet.halo
    assert "sha256" in told["weights"]["onnx"]


class TestRefusals:
    def test_stack(self, small_unet, tmp_path):
        with pytest.raises(ImageError, match="single plane"):
            export_bioimage(
                small_unet,
                tmp_path / "a.zip",
                example=np.zeros((3, 64, 64, 2)),
                axes="ZYXC",
                **TOLD,
            )

    def test_slices(self, tmp_path):
        model = napari_seg.create_model("unet", 3, slices=3, width=4, depth=2)
        with pytest.raises(InputError, match="neighbouring slices"):
            export_bioimage(
                model, tmp_path / "a.zip", example=np.zeros((64, 64)), **TOLD
            )

    @pytest.mark.parametrize("lacking", ["authors", "license"])
    def test_nobody_answers_for_it(self, small_unet, tmp_path, lacking):
        with pytest.raises(InputError, match="author"):
            export_bioimage(
                small_unet,
                tmp_path / "a.zip",
                example=np.zeros((64, 64, 2)),
                **{**TOLD, lacking: ""},
            )

    def test_unknown_licence(self, bioimageio, small_unet, tmp_path):
        with pytest.raises(InputError, match="license"):
            export_bioimage(
                small_unet,
                tmp_path / "a.zip",
                example=np.zeros((64, 64, 2)),
                **{**TOLD, "license": "do what you like"},
            )
        assert not list(tmp_path.glob("a.zip*"))
