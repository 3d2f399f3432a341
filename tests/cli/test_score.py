"""Scores by command."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from napari_seg import score_objects
from napari_seg.scoring.boundary import boundary_scores


@pytest.fixture
def masks(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("found", "truth"):
        (tmp_path / kind).mkdir()
    pairs = {}
    for name in "ab":
        found, truth = rng.integers(0, 3, (2, 40, 50)).astype(np.uint8)
        truth[:5] = 255
        tifffile.imwrite(tmp_path / "found" / f"{name}_mask.tif", found)
        tifffile.imwrite(tmp_path / "truth" / f"{name}.tif", truth)
        pairs[name] = (found, truth)
    return pairs


def test_files_agree_with_scikit_learn(run, masks, tmp_path):
    found, truth = masks["a"]
    result = run(
        "score", tmp_path / "found/a_mask.tif", tmp_path / "truth/a.tif", "--json"
    ).json
    known = truth != 255
    y_true, y_pred = truth[known], found[known]
    assert result["confusion"] == confusion_matrix(y_true, y_pred).tolist()
    assert result["iou"] == pytest.approx(jaccard_score(y_true, y_pred, average=None))
    assert result["dice"] == pytest.approx(f1_score(y_true, y_pred, average=None))
    assert result["mean_iou"] == pytest.approx(np.mean(result["iou"]))
    assert result["mean_dice"] == pytest.approx(np.mean(result["dice"]))
    assert result["pixel_accuracy"] == pytest.approx((y_true == y_pred).mean())
    assert result["pixels"] == known.sum()


def test_folders_pair_by_name_and_sums_come_first(run, masks, tmp_path):
    # These lie beside the masks that predict writes, and are none.
    for ending in ("confidence", "instances"):
        path = tmp_path / "found" / f"a_{ending}.tif"
        tifffile.imwrite(path, np.zeros((40, 50), np.float32))
    result = run("score", tmp_path / "found", tmp_path / "truth", "--json").json
    found, truth = (np.stack(part) for part in zip(*masks.values(), strict=True))
    known = truth != 255
    expected = confusion_matrix(truth[known], found[known]).tolist()
    assert (result["confusion"], result["files"]) == (expected, 2)


def test_files_of_different_classes_add_up(run, tmp_path):
    for kind in ("found", "truth"):
        (tmp_path / kind).mkdir()
        for top in (1, 3):
            path = tmp_path / kind / f"{top}.tif"
            tifffile.imwrite(path, np.full((8, 8), top, np.uint8))
    result = run("score", tmp_path / "found", tmp_path / "truth", "--json").json
    assert result["dice"] == [None, 1, None, 1]
    assert result["mean_dice"] == 1


def test_table_for_people(run, masks, tmp_path):
    files = (tmp_path / "found/a_mask.tif", tmp_path / "truth/a.tif")
    lines = run("score", *files, "--classes", "4").out.splitlines()
    assert lines[0].split() == ["class", "IoU", "Dice", "pixels"]
    assert lines[4].split() == ["3", "–", "–", "0"]
    assert lines[5].split()[0] == "mean"


def test_outlines_at_a_tolerance(run, masks, tmp_path):
    scores = [boundary_scores(*pair, 1.5, 3) for pair in masks.values()]
    total = scores[0] + scores[1]
    folders = (tmp_path / "found", tmp_path / "truth")
    result = run("score", *folders, "--boundary", "1.5", "--json").json
    assert result["boundary_iou"] == pytest.approx(total.boundary_iou)
    assert result["nsd"] == pytest.approx(total.nsd)
    assert result["mean_boundary_iou"] == pytest.approx(total.mean_boundary_iou)
    assert result["mean_nsd"] == pytest.approx(total.mean_nsd)
    assert (result["tolerance"], result["pixel_size"]) == (1.5, None)
    scaled = run(
        "score", *folders, "--boundary", "0.75", "--pixel-size", "0.5", "--json"
    ).json
    assert scaled["nsd"] == pytest.approx(result["nsd"])
    assert "nsd" not in run("score", *folders, "--json").json
    lines = run("score", *folders, "--boundary", "1.5").out.splitlines()
    heading = ["class", "IoU", "Dice", "boundary", "IoU", "NSD", "pixels"]
    assert lines[0].split() == heading
    means = (total.mean_boundary_iou, total.mean_nsd)
    assert lines[-1].split()[3:5] == [f"{mean:.4f}" for mean in means]


def test_outlines_of_stacks_and_of_time_steps(run, tmp_path):
    """Through Z an outline is a surface; through T each step has its own."""
    truth = np.zeros((6, 12, 12), np.uint8)
    truth[2:4, 3:9, 3:9] = 1
    found = np.roll(truth, 1, axis=0)
    options = ("--boundary", "1", "--pixel-size", "2,1,1", "--json")
    results = {}
    for axes in ("ZYX", "TYX"):
        files = [tmp_path / f"{name}_{axes}.tif" for name in ("found", "truth")]
        for path, mask in zip(files, (found, truth), strict=True):
            tifffile.imwrite(path, mask, imagej=True, metadata={"axes": axes})
        if axes == "TYX":
            assert "each of the 2" in run("score", *files, *options).refusal
            options = ("--boundary", "1", "--json")
        results[axes] = run("score", *files, *options).json["nsd"][1]
    volume = boundary_scores(found, truth, 1, spacing=(2, 1, 1)).nsd[1]
    assert results["ZYX"] == pytest.approx(volume)
    # Of three steps with an outline in either, one has it in both.
    assert results["TYX"] == pytest.approx(0.5)


@pytest.fixture
def numbered(tmp_path):
    """Return pairs of object ids; in files, 300 objects are more than 8 bits hold."""
    rng = np.random.default_rng(0)
    for kind in ("found", "truth"):
        (tmp_path / kind).mkdir()
    pairs = []
    for name, columns in (("a", 15), ("b", 10)):
        truth = 1 + np.arange(20 * columns, dtype=np.uint16).reshape(20, columns)
        truth = truth.repeat(4, 0).repeat(4, 1)
        found = np.where(rng.random(truth.shape) < 0.4, 0, truth).astype(np.uint32)
        tifffile.imwrite(tmp_path / "found" / f"{name}_instances.tif", found)
        tifffile.imwrite(tmp_path / "truth" / f"{name}.tif", truth)
        pairs.append((found, truth))
    return pairs


def test_objects_of_files_and_of_folders(run, numbered, tmp_path):
    scores = [score_objects(*pair) for pair in numbered]
    folders = (tmp_path / "found", tmp_path / "truth")
    files = (folders[0] / "a_instances.tif", folders[1] / "a.tif")
    for given, expected, number in (
        (files, scores[0], 1),
        (folders, scores[0] + scores[1], 2),
    ):
        result = run("score", *given, "--objects", "--json").json
        assert 0.4 < result["pq"] == expected.pq[0]
        assert (result["sq"], result["rq"]) == (expected.sq[0], expected.rq[0])
        assert result["ap50"] == expected.ap[0] < 1
        counts = expected.counts
        assert result["true_positives"] == counts.true_positives[0]
        assert result["false_positives"] == counts.false_positives[0]
        assert result["false_negatives"] == counts.false_negatives[0] > 0
        assert result["files"] == number
        lines = run("score", *given, "--objects").out.splitlines()
        assert lines[0].split() == ["PQ", "SQ", "RQ", "AP50", "TP", "FP", "FN"]
        assert lines[1].split()[0] == f"{expected.pq[0]:.4f}"
        assert lines[1].split()[4] == str(counts.true_positives[0])


def test_objects_are_found_beside_the_masks_that_predict_writes(
    run, numbered, tmp_path
):
    for ending in ("", "_mask", "_confidence"):
        path = tmp_path / "found" / f"a{ending}.tif"
        tifffile.imwrite(path, np.zeros((3, 3), np.float32))
    folders = (tmp_path / "found", tmp_path / "truth")
    assert run("score", *folders, "--objects", "--json").json["files"] == 2
    assert run("score", folders[1], folders[1], "--objects", "--json").json["pq"] == 1


def test_object_255_is_an_object(run, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), 255, np.uint8))
    done = run("score", tmp_path / "a.tif", tmp_path / "a.tif", "--objects", "--json")
    assert (done.json["pq"], done.json["true_positives"]) == (1, 1)
    assert "masks of classes" in done.err


def test_objects_of_time_steps_are_scored_one_by_one(run, tmp_path):
    """The same nucleus has the same id in each step, and is found in one of two."""
    truth = np.ones((2, 8, 8), np.uint8)
    found = truth.copy()
    found[1, 3:] = 0
    counts = {}
    for axes in ("ZYX", "TYX"):
        files = [tmp_path / f"{name}_{axes}.tif" for name in ("found", "truth")]
        for path, ids in zip(files, (found, truth), strict=True):
            tifffile.imwrite(path, ids, imagej=True, metadata={"axes": axes})
        told = run("score", *files, "--objects", "--json").json
        counts[axes] = told["true_positives"], told["false_negatives"]
    assert counts == {"ZYX": (1, 0), "TYX": (1, 1)}


def test_no_objects_have_no_score(run, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint8))
    files = (tmp_path / "a.tif", tmp_path / "a.tif", "--objects")
    told = run("score", *files, "--json").json
    assert [told[key] for key in ("pq", "sq", "rq", "ap50")] == [None] * 4
    assert run("score", *files).out.splitlines()[1].split()[:4] == ["–"] * 4


def test_refusals_of_objects(run, numbered, tmp_path):
    found, truth = tmp_path / "found", tmp_path / "truth"
    one, other = found / "a_instances.tif", truth / "a.tif"
    for option in ("--classes", "--ignore", "--boundary"):
        refusal = run("score", one, other, "--objects", option, "2").refusal
        assert refusal.startswith(f"{option} is for masks of classes")
    assert "shapes differ" in run("score", one, truth / "b.tif", "--objects").refusal
    tifffile.imwrite(one, np.zeros((80, 60), np.float32))
    refusal = run("score", one, other, "--objects").refusal
    assert "a_instances.tif against" in refusal
    assert "must be integers" in refusal
    Image.fromarray(np.zeros((80, 60, 3), np.uint8)).save(found / "c.png")
    refusal = run("score", found / "c.png", found / "c.png", "--objects").refusal
    assert "one number for each pixel" in refusal


def test_ignore(run, masks, tmp_path):
    files = (tmp_path / "found/a_mask.tif", tmp_path / "truth/a.tif")
    result = run("score", *files, "--ignore", "0", "--json").json
    assert result["confusion"][0] == [0, 0, 0]


def test_png_with_a_colour_table_holds_ids(run, tmp_path):
    mask = np.repeat([[0, 1]], 8, axis=0).astype(np.uint8)
    image = Image.fromarray(mask, mode="P")
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", mask)
    result = run("score", tmp_path / "a.png", tmp_path / "a.tif", "--json").json
    assert result["mean_dice"] == 1


def test_mask_of_0_and_255_is_explained(run, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), 255, np.uint8))
    done = run("score", tmp_path / "a.tif", tmp_path / "a.tif", "--json")
    assert done.json["mean_dice"] is None
    assert "mask > 0" in done.err


@pytest.mark.parametrize("objects", [60, 300])
def test_numbers_of_objects_are_recognised(run, tmp_path, objects):
    ids = np.arange(objects, dtype=np.uint16).repeat(8).reshape(-1, 40)
    tifffile.imwrite(tmp_path / "a.tif", ids)
    done = run("score", tmp_path / "a.tif", tmp_path / "a.tif")
    assert "--objects" in done.err
    assert (
        "--objects"
        not in run("score", tmp_path / "a.tif", tmp_path / "a.tif", "--objects").err
    )


def test_refusals(run, masks, tmp_path):
    found, truth = tmp_path / "found", tmp_path / "truth"
    one, other = found / "a_mask.tif", truth / "a.tif"

    def refusal(*arguments):
        return run("score", *arguments).refusal

    assert "no file or folder" in refusal(one, "nosuch.tif")
    assert "two files or two folders" in refusal(one, truth)
    assert "--classes" in refusal(one, other, "--classes", "2")
    assert "must be above 0" in refusal(one, other, "--boundary", "0")
    assert "goes with --boundary" in refusal(one, other, "--pixel-size", "0.5")
    assert "0.65" in run("score", one, other, "--pixel-size", "small").err
    assert "it can be 1 to 255" in refusal(one, other, "--classes", "0")
    tifffile.imwrite(one, np.zeros((9, 9), np.uint8))
    assert "same shape" in refusal(one, other)
    tifffile.imwrite(one, np.zeros((40, 50), np.float32))
    assert "must be integers" in refusal(found, truth)
    one.rename(found / "x.tif")
    (found / "b_mask.tif").rename(found / "y.tif")
    assert "pair by name" in refusal(found, truth)
    tifffile.imwrite(found / "a.tif", np.zeros((9, 9), np.uint8))
    tifffile.imwrite(found / "a_mask.png", np.zeros((9, 9), np.uint8))
    tifffile.imwrite(found / "a.tiff", np.zeros((9, 9), np.uint8))
    assert "same name" in refusal(found, truth)
