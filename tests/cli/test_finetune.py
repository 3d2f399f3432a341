"""Fine-tuning by command: what it leaves behind, and what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile

from napari_seg.cli.labelled import Planes, labelled_files, read_labelled, read_replay
from napari_seg.corrections.project import Project, ProjectClass
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import create_model
from napari_seg.synthetic import synthetic_nuclei

GRAY = {"photometric": "minisblack"}


@pytest.fixture
def finetune(run, model_file, pairs, tmp_path, quick):
    """Run the command on the small data set, with more arguments, or others."""

    def command(*more, model=model_file, data=None, output=None):
        data = data or ("--images", pairs / "images", "--labels", pairs / "labels")
        output = output or tmp_path / "new"
        return run("finetune", "-m", model, *data, "-o", output, *quick, *more)

    return command


def test_json_has_the_keys_of_the_contract(finetune, tmp_path):
    result = finetune("--json").json
    assert result["model"] == str(tmp_path / "new.safetensors")
    assert (result["steps"], result["stopped"]) == (3, False)
    assert result["seconds"] > 0
    assert isinstance(result["improved"], bool)
    for scores in (result["before"], result["after"]):
        assert {"iou", "dice", "mean_iou", "mean_dice"} <= scores.keys()
        assert len(scores["iou"]) == 2
    spec = load_model(result["model"]).spec
    assert spec.classes == ("background", "nucleus")
    assert spec.history[-1]["steps"] == 3


def test_people_get_a_sentence(finetune, tmp_path):
    done = finetune()
    assert done.status == 0
    assert "Mean Dice" in done.out
    assert str(tmp_path / "new.safetensors") in done.out


def test_progress_is_json_lines_on_standard_error(finetune):
    done = finetune("--progress", "json")
    events = [json.loads(line) for line in done.err.splitlines()]
    assert [event["step"] for event in events] == [1, 2, 3]
    assert events[-1]["spent"] == 1


def test_nothing_held_out_gives_null_not_nan(finetune):
    result = finetune("--holdout", "0", "--json").json
    assert result["after"]["mean_dice"] is None
    assert result["improved"] is False


def test_project_folder(finetune, pairs, tmp_path):
    shutil.copytree(pairs, tmp_path / "project" / "windows")
    result = finetune("--json", data=("--project", tmp_path / "project")).json
    assert result["steps"] == 3
    history = load_model(result["model"]).spec.history
    assert history[-1]["project"] == "project", "for replay"


def test_stacks_are_trained_plane_by_plane(finetune, tmp_path, pairs):
    for kind in ("images", "labels"):
        planes = [tifffile.imread(path) for path in sorted((pairs / kind).iterdir())]
        (tmp_path / "stacks" / kind).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "stacks" / kind / "a.tif", np.stack(planes), **GRAY)
    result = finetune("--json", data=("--project", tmp_path / "stacks")).json
    assert result["pixels"] > 0


def test_ranges_of_the_whole_image_come_with_a_window(pairs):
    path = pairs / "images" / "0.tif"
    tifffile.imwrite(path, tifffile.imread(path), metadata={"ranges": [[10, 9000]]})
    spec = create_model("unet", width=4, depth=2).spec
    planes = Planes.of(
        read_labelled(labelled_files(pairs / "images", pairs / "labels")), spec
    )
    assert planes.ranges[0].tolist() == [[10, 9000]]
    assert planes.ranges[1].tolist() != [[10, 9000]]


def test_its_place_in_the_whole_image_comes_with_a_window(pairs):
    path = pairs / "images" / "0.tif"
    tifffile.imwrite(path, tifffile.imread(path), metadata={"origin": [64, 128]})
    spec = create_model("unet", width=4, depth=2).spec
    planes = Planes.of(
        read_labelled(labelled_files(pairs / "images", pairs / "labels")), spec
    )
    assert planes.origins[0] == (path.stem, 64, 128)
    assert planes.origins[1:] == [None] * (len(planes.images) - 1)


def test_replay_reports_on_earlier_images(finetune, pairs, tmp_path):
    earlier = shutil.copytree(pairs, tmp_path / "earlier")
    result = finetune("--replay", earlier, "--json").json
    assert result["earlier"]["regions"] > 0


def test_replay_may_come_from_several_places(finetune, pairs, tmp_path):
    one, other = (shutil.copytree(pairs, tmp_path / name) for name in ("a", "b"))
    alone = finetune("--replay", one, "--json").json
    both = finetune("--replay", one, "--replay", other, "--json").json
    assert both["earlier"]["pixels"] > 1.5 * alone["earlier"]["pixels"]


def test_replay_goes_by_the_names_of_classes(pairs, tmp_path):
    folder = tmp_path / "earlier"
    shutil.copytree(pairs, folder / "windows")
    path = folder / "windows" / "labels" / "0.tif"
    labels = tifffile.imread(path)
    labels[:4, :4], labels[4:8, :4], labels[8:12, :4] = 2, 1, 255
    tifffile.imwrite(path, labels)
    with Project.create(folder) as project:
        project.set_classes(
            [
                ProjectClass("background", ""),
                ProjectClass("debris", ""),
                ProjectClass("cell", "", earlier=("nucleus",)),
            ]
        )
    (first, *_) = read_replay(folder, ("background", "nucleus"))
    assert (first.labels[:4, :4] == 1).all()
    assert (first.labels[4:8, :4] == 255).all(), "the model has no debris"
    assert (first.labels[8:12, :4] == 255).all()
    (plain, *_) = read_replay(folder / "windows", ("background", "nucleus"))
    np.testing.assert_array_equal(plain.labels, labels)


def test_new_class(finetune, pairs, tmp_path):
    labels = tifffile.imread(pairs / "labels" / "0.tif")
    labels[:20, :20] = 2
    tifffile.imwrite(pairs / "labels" / "0.tif", labels)
    refused = finetune().refusal
    assert "class 2" in refused
    assert "--classes background,nucleus,NAME" in refused
    model = finetune("--classes", "background,nucleus,debris", "--json").json["model"]
    assert load_model(model).spec.classes == ("background", "nucleus", "debris")


def test_other_channels_only_when_asked_for(finetune, pairs):
    for path in (pairs / "images").iterdir():
        image = tifffile.imread(path)
        tifffile.imwrite(path, np.stack([image, image]), metadata={"axes": "CYX"})
    assert "--adapt-channels" in finetune().refusal
    model = finetune("--adapt-channels", "--json").json["model"]
    assert load_model(model).spec.in_channels == 2


def test_the_start_is_not_overwritten_unawares(finetune, model_file, tmp_path):
    start = shutil.copy(model_file, tmp_path / "start.safetensors")
    before = (tmp_path / "start.safetensors").read_bytes()
    # The suffix is added: this is the same file.
    assert "--overwrite" in finetune(model=start, output=tmp_path / "start").refusal
    assert (tmp_path / "start.safetensors").read_bytes() == before
    assert finetune("--overwrite", model=start, output=start).status == 0
    assert (tmp_path / "start.safetensors").read_bytes() != before


def test_options_of_the_configuration_reach_the_training(finetune):
    assert (
        finetune(
            "--learning-rate",
            "0.01",
            "--loss",
            "bce_dice",
            "--norm-statistics",
            "kept",
            "--no-augment-flips",
            "--augment-rotation",
            "0",
        ).status
        == 0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--learning-rate", "7"), "1e-06 to 0.1"),
        (("--learning-rate", "fast"), "invalid float value"),
        (("--batch", "0"), "1 to 256 crops"),
        (("--holdout", "nan"), "0 to 0.9"),
        (("--loss", "hinge"), "choose from"),
        (("--minutes", "1"), "not allowed with argument"),
        (("--steps", "0"), "must be above 0"),
        (("--classes", "nucleus"), "at least two"),
        (("--classes", "a,a"), "at least two different"),
        (("--classes", "background,nucleus"), None),
        (("--device", "tpu"), "choose auto"),
        (("--replay", "/nowhere"), "does not exist"),
        (("--colour", "red"), "unrecognized arguments"),
    ],
)
def test_wrong_option(finetune, arguments, message):
    if message is None:
        assert finetune(*arguments).status == 0
    else:
        assert message in finetune(*arguments).refusal


def test_wrong_folders(finetune, pairs, tmp_path):
    (tmp_path / "empty").mkdir()
    images, labels = pairs / "images", pairs / "labels"

    def refusal(*data):
        return finetune(data=data).refusal

    assert "--project DIR" in refusal("--images", images)
    assert "--project DIR" in refusal("--project", pairs, "--images", images)
    assert "no training set" in refusal("--project", tmp_path / "empty")
    assert "no image in" in refusal("--images", tmp_path / "empty", "--labels", labels)
    assert "is a file" in refusal("--images", images / "0.tif", "--labels", labels)


def test_wrong_pairs(finetune, pairs):
    labels = pairs / "labels"
    tifffile.imwrite(labels / "0.tif", np.zeros((10, 10), np.uint8))
    assert "does not fit" in finetune().refusal
    tifffile.imwrite(labels / "0.tif", np.zeros((96, 96), np.float32))
    assert "must be integers" in finetune().refusal
    (labels / "0.tif").write_bytes(b"II*\0damaged")
    assert "cannot be read" in finetune().refusal
    for path in labels.iterdir():
        path.rename(path.with_stem(f"x{path.stem}"))
    assert "pair by name" in finetune().refusal


def test_nothing_labelled(finetune, pairs):
    for path in (pairs / "labels").iterdir():
        tifffile.imwrite(path, np.full((96, 96), 255, np.uint8))
    assert "label" in finetune().refusal


def test_images_without_labels_are_named(finetune, pairs):
    (pairs / "labels" / "2.tif").unlink()
    done = finetune()
    assert done.status == 0
    assert "1 without a partner left out: 2" in done.err


def test_model_that_is_none(finetune, tmp_path):
    assert "nosuch" in finetune(model="nosuch").refusal
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04")
    assert "pickled" in finetune(model=tmp_path / "weights.pt").refusal


def test_output_that_cannot_be(finetune, tmp_path):
    (tmp_path / "file").touch()
    assert "is a file" in finetune(output=tmp_path / "file" / "model").refusal
    (tmp_path / "folder.safetensors").mkdir()
    assert "is a folder" in finetune(output=tmp_path / "folder").refusal


def test_gray_images_for_a_model_of_gray_and_rgb(finetune, tmp_path):
    model = create_model("unet", 3, gray_as_rgb=True, width=4, depth=2)
    assert finetune(model=save_model(model, tmp_path / "both")).status == 0


def test_objects_are_learned_from_when_asked_for(finetune, pairs, tmp_path):
    ids = tmp_path / "ids"
    ids.mkdir()
    for seed in range(3):
        sample = synthetic_nuclei((96, 96), n=6, seed=seed)
        tifffile.imwrite(ids / f"{seed}_instances.tif", sample.instances)
    done = finetune("--objects", ids, "--object-head", "--json")
    assert done.json
    assert load_model(tmp_path / "new.safetensors").spec.object_head
    (with_ids,) = {
        each.objects.max()
        for each in read_labelled(
            labelled_files(pairs / "images", pairs / "labels"), ids
        )
        if each.name == "0.tif"
    }
    assert with_ids == synthetic_nuclei((96, 96), n=6, seed=0).instances.max()

    # The windows of a project have theirs beside them.
    shutil.copytree(pairs, tmp_path / "project" / "windows")
    shutil.copytree(ids, tmp_path / "project" / "windows" / "objects")
    tifffile.imwrite(
        tmp_path / "project" / "windows" / "objects" / "2_instances.tif",
        np.zeros((5, 5), np.uint16),
    )
    project = ("--project", tmp_path / "project")
    assert "integer id" in finetune("--object-head", data=project).refusal

    assert "--object-head" in finetune("--objects", ids).refusal
