"""Packages of others as models: what fits is honoured, what does not is refused."""

from __future__ import annotations

import io
import json
import pickle
import stat
import zipfile
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_seg
from napari_seg.errors import ModelFileError, NotTrainableError
from napari_seg.inference.runner import TileRunner
from napari_seg.models.catalog import read_spec
from napari_seg.models.checkpoint import pack_model
from napari_seg.workspace.choices import ModelShelf
from napari_seg.workspace.obstacles import to_finetune
from napari_seg.zoo.export import export_onnx
from napari_seg.zoo.graph import Graph
from napari_seg.zoo.network import PackageModel
from napari_seg.zoo.reading import Description
from tests.zoo.conftest import SEEN, TOLD, linear_graph, npy

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(20, 4000, (70, 90)).astype(np.uint16)


def _probability(path, image=IMAGE):
    """Return the probability of the second of two classes."""
    found = napari_seg.predict(napari_seg.load_model(path), image, confidence=True)
    return np.where(found.labels == 1, found.confidence, 1 - found.confidence)


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def _before(*steps):
    def edit(told):
        told["inputs"][0]["preprocessing"] = [
            {"id": name, "kwargs": values} for name, values in steps
        ]

    return edit


_LOW, _HIGH = np.percentile(IMAGE, (2, 97))
_PLANE = {"axes": ["y", "x"]}
STEPS = {
    "nothing": ([], IMAGE / 4000 * 0 + np.minimum(IMAGE, 4000)),
    "zero_mean_unit_variance": (
        [("zero_mean_unit_variance", _PLANE)],
        (IMAGE - IMAGE.mean()) / (IMAGE.std() + 1e-6),
    ),
    "scale_range": (
        [("scale_range", {**_PLANE, "min_percentile": 2, "max_percentile": 97})],
        (IMAGE - _LOW) / (_HIGH - _LOW + 1e-6),
    ),
    "eps counts": (
        [
            ("scale_linear", {"gain": 1e-3, "offset": 4.0}),
            ("zero_mean_unit_variance", {**_PLANE, "eps": 0.1}),
        ],
        1e-3 * (IMAGE - IMAGE.mean()) / (1e-3 * IMAGE.std() + 0.1),
    ),
    "scale_linear": (
        [("scale_linear", {"gain": 1 / 4000, "offset": -0.3})],
        IMAGE / 4000 - 0.3,
    ),
    "negative": (
        [("scale_linear", {"gain": -1 / 4000, "offset": 0.9})],
        0.9 - IMAGE / 4000,
    ),
    "fixed": (
        [("fixed_zero_mean_unit_variance", {"mean": 1900.0, "std": 800.0})],
        (IMAGE - 1900.0) / 800,
    ),
    "fixed of each channel": (
        [
            (
                "fixed_zero_mean_unit_variance",
                {"mean": [1900.0], "std": [800.0], "axis": "channel"},
            )
        ],
        (IMAGE - 1900.0) / 800,
    ),
    "binarize": ([("binarize", {"threshold": 1500})], IMAGE > 1500),
    "clip after": (
        [
            ("ensure_dtype", {"dtype": "float32"}),
            ("zero_mean_unit_variance", _PLANE),
            ("clip", {"min": -1.0, "max": 0.5}),
            ("scale_linear", {"gain": 3.0, "offset": 1.0}),
        ],
        3 * ((IMAGE - IMAGE.mean()) / IMAGE.std()).clip(-1, 0.5) + 1,
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_before_the_network_are_taken(packed, name):
    steps, expected = STEPS[name]
    found = _probability(packed(_before(*steps)))
    np.testing.assert_allclose(found, _sigmoid(expected), atol=2e-5)


@pytest.mark.parametrize("axes", [["y", "x"], ["channel", "y", "x"], None])
def test_channels_are_scaled_each_or_together(packed, axes):
    def edit(told):
        _before(("zero_mean_unit_variance", {"axes": axes} if axes else {}))(told)
        told["inputs"][0]["axes"][1]["channel_names"] = ["r", "g"]

    image = np.stack([IMAGE, IMAGE[::-1] // 3 + 500], axis=-1).astype(np.float64)
    graph = linear_graph(
        np.array([[0, 0], [1, -2]], np.float32), np.zeros(2, np.float32)
    )
    over = (0, 1) if axes == ["y", "x"] else (0, 1, 2)
    scaled = (image - image.mean(over)) / image.std(over)
    found = _probability(packed(edit, graph), image)
    expected = _sigmoid(scaled[..., 0] - 2 * scaled[..., 1])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_tiles_do_not_show(packed, monkeypatch):
    model = napari_seg.load_model(packed(_before(("zero_mean_unit_variance", _PLANE))))
    whole = napari_seg.predict(model, IMAGE, confidence=True)
    tiled = napari_seg.predict(model, IMAGE, confidence=True, tile=32)
    assert np.array_equal(whole.labels, tiled.labels)
    np.testing.assert_allclose(whole.confidence, tiled.confidence, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    sides=st.tuples(st.integers(32, 90), st.integers(32, 90)),
    leasts=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    steps=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_network_gets_sides_that_it_takes_whatever_the_image(sides, leasts, steps):
    from napari_seg.models.spec import ModelSpec, Normalization
    from napari_seg.zoo.answers import Answer
    from napari_seg.zoo.forms import Form, Side

    pairs = tuple(Side(a, b) for a, b in zip(leasts, steps, strict=True))
    spec = ModelSpec("bioimage.io", None, 1, ("a", "b"), normalization=Normalization())
    description = Description(
        spec,
        Form("yxbc", 1, sides=pairs),
        Form("bcyx", 2),
        (),
        Answer(spec.classes, (0, 1), False, False),
        "net.onnx",
        "",
    )
    seen = []

    def graph(x):
        seen.append(x.shape[:2])
        image = np.moveaxis(x, (2, 3), (0, 1))
        return np.concatenate([image * 0, image], axis=1)

    x = torch.rand(2, 1, *sides)
    logits = PackageModel(description, graph)(x)
    assert torch.equal(logits[:, 1:], x)
    for length, least, step, side in zip(seen[0], leasts, steps, sides, strict=True):
        assert length >= max(least, side)
        assert (length - least) % step == 0
        assert length - side < max(step, least)


def _after(*steps, names=("background", "cell"), **changes):
    def edit(told):
        output = told["outputs"][0]
        output["postprocessing"] = [{"id": n, "kwargs": v} for n, v in steps]
        output["axes"][1]["channel_names"] = list(names)
        output.update(changes)
        _before(("scale_linear", {"gain": 1 / 4000}))(told)

    return edit


def _example(*channels):
    return {"test__npy": npy(np.array(channels, np.float32)[None, :, None, None])}


TEST = {"test_tensor": {"source": "test.npy"}}
UNIT = IMAGE / 4000


class TestAnswers:
    def test_background_comes_first_whichever_channel_it_has(self, packed):
        edit = _after(("softmax", {}), names=["cell", "Background"])
        model = napari_seg.load_model(packed(edit))
        assert model.spec.classes == ("Background", "cell")
        np.testing.assert_allclose(
            _probability(packed(edit)), 1 - _sigmoid(UNIT), atol=2e-5
        )

    def test_probability_of_the_foreground(self, packed):
        graph = linear_graph(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
        path = packed(_after(names=["channel0"], **TEST), graph, **_example(0.7))
        assert read_spec(path).classes == ("background", "foreground")
        np.testing.assert_allclose(_probability(path), UNIT, atol=2e-5)

    def test_sigmoid_and_threshold(self, packed):
        graph = linear_graph(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
        steps = [("sigmoid", {}), ("binarize", {"threshold": 0.6})]
        path = packed(_after(*steps, names=["nuclei"]), graph)
        model = napari_seg.load_model(path)
        assert model.spec.classes == ("background", "nuclei")
        labels = napari_seg.predict(model, IMAGE).labels
        assert np.array_equal(labels, _sigmoid(UNIT) > 0.6)

    def test_classes_beside_a_background_that_has_no_channel(self, packed):
        graph = linear_graph(
            np.array([[1], [-1]], np.float32), np.array([-0.2, 0.5], np.float32)
        )
        path = packed(_after(("sigmoid", {}), names=["body", "rim"]), graph)
        model = napari_seg.load_model(path)
        assert model.spec.classes == ("background", "body", "rim")
        scores = np.stack([UNIT * 0, UNIT - 0.2, 0.5 - UNIT])
        labels = napari_seg.predict(model, IMAGE).labels
        assert (labels == scores.argmax(0)).mean() > 0.999

    def test_probabilities_that_add_up_exclude_each_other(self, packed):
        graph = linear_graph(
            np.array([[-1], [1]], np.float32), np.array([1, 0], np.float32)
        )
        path = packed(_after(**TEST), graph, **_example(0.3, 0.7))
        np.testing.assert_allclose(_probability(path), UNIT, atol=2e-5)

    def test_logits_of_a_segmentation(self, packed):
        path = packed(_after(**TEST), **_example(-3.0, 4.0))
        np.testing.assert_allclose(_probability(path), _sigmoid(UNIT), atol=2e-5)

    @pytest.mark.parametrize(
        ("edit", "files"),
        [
            (_after(), {}),
            (_after(**TEST, names=["denoised"]), _example(300.0)),
            (_after(**TEST, data={"type": "uint16"}), _example(3.0, 1.0)),
            (_after(**TEST, names=["flow y", "flow x"]), _example(0.2, 0.8)),
            (_after(("stardist_postprocessing", {})), {}),
        ],
    )
    def test_no_classes(self, packed, edit, files):
        with pytest.raises(ModelFileError, match="classes of its pixels out"):
            read_spec(packed(edit, **files))


OLD = {
    "format_version": "0.4.10",
    "type": "model",
    "name": "of old",
    "inputs": [
        {
            "name": "raw",
            "axes": "byxc",
            "data_type": "float32",
            "data_range": [-1e9, 1e9],
            "shape": {"min": [1, 64, 64, 1], "step": [0, 16, 16, 0]},
            "preprocessing": [
                {
                    "name": "zero_mean_unit_variance",
                    "kwargs": {"mode": "per_sample", "axes": "yx"},
                }
            ],
        }
    ],
    "outputs": [
        {
            "name": "seg",
            "axes": "byxc",
            "data_type": "float32",
            "halo": [0, 8, 8, 0],
            "shape": {
                "reference_tensor": "raw",
                "scale": [1, 1, 1, 0],
                "offset": [0, 0, 0, 0.5],
            },
            "postprocessing": [{"name": "sigmoid"}],
        }
    ],
    "weights": {"onnx": {"source": "net.onnx"}},
}


class TestSpecification04:
    def test_channels_last_folder(self, tmp_path):
        (tmp_path / "rdf.yaml").write_text(yaml.safe_dump(OLD))
        nodes = [onnx.helper.make_node("Identity", ["raw"], ["seg"])]
        info = onnx.helper.make_tensor_value_info
        kind, shape = onnx.TensorProto.FLOAT, [1, "H", "W", 1]
        graph = onnx.helper.make_graph(
            nodes, "same", [info("raw", kind, shape)], [info("seg", kind, shape)]
        )
        onnx.save(
            onnx.helper.make_model(
                graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
            ),
            tmp_path / "net.onnx",
        )
        model = napari_seg.import_bioimage(tmp_path)
        assert (model.stride, model.halo) == (16, 16)
        expected = _sigmoid((IMAGE - IMAGE.mean()) / IMAGE.std())
        np.testing.assert_allclose(_probability(tmp_path), expected, atol=2e-5)


def _set(*keys):
    """Return an edit that sets a value deep inside."""
    *path, last, value = keys

    def edit(told):
        for key in path:
            told = told[key]
        told[last] = value

    return edit


def _z(told):
    axis = {"type": "space", "id": "z", "size": {"min": 8, "step": 8}}
    told["inputs"][0]["axes"].insert(2, axis)


UNFIT = {
    "three dimensions": (_z, "axis 'z'"),
    "two inputs": (lambda t: t["inputs"].append(t["inputs"][0]), "2 inputs"),
    "two outputs": (lambda t: t["outputs"].append(t["outputs"][0]), "2 outputs"),
    "one size": (_set("inputs", 0, "axes", 2, "size", 256), "one size only"),
    "other size": (
        _set("outputs", 0, "axes", 2, "size", "offset", -8),
        "another size than its input",
    ),
    "half size": (_set("outputs", 0, "axes", 3, "scale", 2.0), "another size"),
    "own code": (_before(("custom", {"source": "a.py"})), "step 'custom'"),
    "twice": (
        _before(("scale_range", _PLANE), ("zero_mean_unit_variance", _PLANE)),
        "more than once",
    ),
    "percentiles of clip": (
        _before(("clip", {"min_percentile": 1, "max_percentile": 99})),
        "clips an image at its own",
    ),
    "pickle": (
        _set("weights", {"pytorch_state_dict": {"source": "w.pt"}}),
        "no ONNX weights, only pytorch_state_dict.*add-weights",
    ),
    "TorchScript": (
        _set("weights", {"torchscript": {"source": "w.pt"}}),
        "no ONNX weights, only torchscript",
    ),
    "changed weights": (_set("weights", "onnx", "sha256", "0" * 64), "SHA-256"),
    "fetched weights": (
        _set("weights", "onnx", "source", "https://example.org/net.onnx"),
        "leads out",
    ),
    "outside": (_set("weights", "onnx", "source", "../net.onnx"), "leads out"),
    "absolute": (_set("weights", "onnx", "source", "/etc/passwd"), "leads out"),
    "missing weights": (_set("weights", "onnx", "source", "n.onnx"), "not in the"),
    "newer": (_set("format_version", "0.6.0"), "knows 0.4 and 0.5"),
    "data set": (_set("type", "dataset"), "no model"),
    "nonsense": (_set("inputs", 0, "axes", 7), "not what the specification"),
    "misfit of ours": (
        _set("config", {"napari_seg": {"spec": {"arch": "unet"}}}),
        "incomplete",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_told(packed, name):
    edit, words = UNFIT[name]
    with pytest.raises(ModelFileError, match=words):
        napari_seg.load_model(packed(edit))


class TestHostilePackages:
    def _zip(self, path, **entries):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("rdf.yaml", yaml.safe_dump(TOLD))
            for name, value in entries.items():
                archive.writestr(name, value)
        return path

    @pytest.mark.parametrize("name", ["../evil", "/evil", "a\\..\\..\\evil", "C:evil"])
    def test_name_that_leads_out(self, tmp_path, name):
        path = self._zip(tmp_path / "a.zip", **{name: b"x"})
        with pytest.raises(ModelFileError, match="leads out"):
            napari_seg.load_model(path)

    def test_link_in_an_archive(self, tmp_path):
        link = zipfile.ZipInfo("net.onnx")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        path = self._zip(tmp_path / "a.zip")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(link, "/etc/passwd")
        with pytest.raises(ModelFileError, match="leads out"):
            napari_seg.load_model(path)

    def test_link_in_a_folder(self, tmp_path):
        secret = tmp_path / "secret"
        secret.write_bytes(SEEN.SerializeToString())
        folder = tmp_path / "package"
        folder.mkdir()
        (folder / "rdf.yaml").write_text(yaml.safe_dump(TOLD))
        (folder / "net.onnx").symlink_to(secret)
        with pytest.raises(ModelFileError, match="leads out"):
            napari_seg.load_model(folder)

    def test_bomb(self, tmp_path):
        path = self._zip(tmp_path / "a.zip", **{"net.onnx": bytes(80 << 20)})
        assert path.stat().st_size < 1 << 20
        with pytest.raises(ModelFileError, match="are no model"):
            napari_seg.load_model(path)

    def test_many_meanings_of_a_short_text(self, tmp_path):
        text = "a: &a [1, 2, 3, 4, 5, 6, 7, 8]\n"
        for before, after in zip("abcdefgh", "bcdefghi", strict=True):
            text += f"{after}: &{after} [{', '.join([f'*{before}'] * 8)}]\n"
        self._refused(tmp_path, text)

    def test_text_without_end(self, tmp_path):
        self._refused(tmp_path, "inputs: &a [*a]\n")

    def test_code_in_the_description(self, tmp_path):
        target = tmp_path / "ran"
        self._refused(tmp_path, f"a: !!python/object/apply:os.mkdir ['{target}']\n")
        assert not target.exists()

    def _refused(self, folder, text):
        path = folder / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("rdf.yaml", text)
        with pytest.raises(ModelFileError, match="cannot be read"):
            napari_seg.load_model(path)

    def test_pickled_test_output(self, packed, tmp_path):
        content = io.BytesIO()
        np.save(content, np.array([_Trap(tmp_path / "ran")], object), allow_pickle=True)
        path = packed(_after(**TEST), test__npy=content.getvalue())
        with pytest.raises(ModelFileError, match="allow_pickle"):
            napari_seg.load_model(path)
        assert not (tmp_path / "ran").exists()

    def test_graph_that_reads_other_files(self, packed, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        np.ones(2, np.float32).tofile("secret")
        graph = onnx.ModelProto()
        graph.CopyFrom(SEEN)
        bias = graph.graph.initializer[1]
        bias.ClearField("raw_data")
        bias.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "secret"), ("offset", "0"), ("length", "8")):
            entry = bias.external_data.add()
            entry.key, entry.value = key, value
        with pytest.raises(ModelFileError, match="not opened"):
            napari_seg.load_model(packed(graph=graph))

    @pytest.mark.parametrize("content", [b"", b"no graph", pickle.dumps([1])])
    def test_something_else_for_a_graph(self, packed, content):
        with pytest.raises(ModelFileError, match="cannot be used"):
            napari_seg.load_model(packed(graph=content))

    def test_graph_that_answers_in_another_form(self, packed):
        graph = linear_graph(np.ones((3, 1), np.float32), np.zeros(3, np.float32))
        model = napari_seg.load_model(packed(graph=graph))
        with pytest.raises(ModelFileError, match="does not keep to it"):
            napari_seg.predict(model, IMAGE)

    def test_zip_of_something_else(self, tmp_path):
        path = tmp_path / "photos.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")
        with pytest.raises(ModelFileError, match="no package"):
            napari_seg.load_model(path)

    def test_pickle_stays_refused(self, tmp_path):
        torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
        with pytest.raises(ModelFileError, match="pickled"):
            napari_seg.load_model(tmp_path / "a.pt")

    def test_cut_off(self, packed):
        path = packed()
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ModelFileError):
            napari_seg.load_model(path)


class _Trap:
    def __init__(self, target):
        self._target = target

    def __reduce__(self):
        return (type(self._target).mkdir, (self._target,))


class TestInTheProgram:
    def test_cannot_be_trained_adapted_or_saved(self, packed, tmp_path):
        model = napari_seg.load_model(packed())
        labels = np.zeros(IMAGE.shape, np.uint8)
        for attempt in (
            lambda: napari_seg.finetune(model, [IMAGE], [labels], steps=1),
            lambda: napari_seg.adapt_model(model, in_channels=3),
            lambda: napari_seg.save_model(model, tmp_path / "a"),
            lambda: napari_seg.export_onnx(model, tmp_path / "a.onnx"),
            lambda: pack_model(model),
        ):
            with pytest.raises(NotTrainableError, match="another program"):
                attempt()

    def test_cost_is_that_of_the_layers(self, small_unet, tmp_path):
        graph = Graph(export_onnx(small_unet, tmp_path / "a.onnx").read_bytes(), "a")
        x = np.zeros((1, 2, 64, 64), np.float32)
        macs, largest = (part / 64**2 for part in graph.cost(x))
        cost = TileRunner(small_unet, torch.device("cpu")).cost
        assert macs == pytest.approx(cost.macs)
        # With what joins a skip and what was upsampled, which is no layer of its own.
        assert cost.bytes / 32 <= largest <= 2 * cost.bytes / 32

    def test_package_of_ours_comes_back_as_it_went(self, small_unet, packed, tmp_path):
        """As :func:`export_bioimage` describes it, without bioimageio.core."""
        path = export_onnx(small_unet, tmp_path / "net.onnx")

        def edit(told):
            told["config"] = {"napari_seg": {"spec": json.loads(json.dumps(spec))}}
            told["inputs"][0]["axes"][1]["channel_names"] = ["a", "b"]
            for axis in told["inputs"][0]["axes"][2:]:
                axis["size"] = {"min": 120, "step": small_unet.stride}
            told["outputs"][0]["axes"][1]["channel_names"] = list("xyz")

        spec = {**small_unet.spec.to_dict(), "pixel_size": 0.25}
        model = napari_seg.load_model(packed(edit, path.read_bytes()))
        assert model.spec.classes == small_unet.spec.classes
        assert model.spec.pixel_size == 0.25
        image = np.stack([IMAGE, IMAGE[::-1]], axis=-1)
        ours = napari_seg.predict(small_unet, image, confidence=True)
        back = napari_seg.predict(model, image, confidence=True)
        assert np.array_equal(ours.labels, back.labels)
        np.testing.assert_allclose(ours.confidence, back.confidence, atol=1e-5)

    def test_dock_lists_it_and_says_that_it_cannot_learn(self, packed, tmp_path):
        packed(name="mine.zip")
        packed(lambda told: told.pop("weights"), name="broken.zip")
        shelf = ModelShelf(tmp_path)
        labels = {choice.label: choice for choice in shelf.trained()}
        assert not labels["mine"].trainable
        assert "broken" not in labels
        assert shelf.open(tmp_path / "mine.zip").spec.name == "by hand"
        # Where there is something to learn from, and nothing else in the way.
        session = SimpleNamespace(ledger=object(), read_only=False)
        workspace = SimpleNamespace(session=session, choice=labels["mine"])
        assert "can only predict" in to_finetune(workspace)
