"""The simulated annotator measures what it says, on images made for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("psutil")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from benchmarks import _arms, _windows, annotation
from napari_seg.synthetic import synthetic_nuclei

ROUNDS = (1, 4)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with one kind of four images."""
    for part in ("images", "masks"):
        (tmp_path / "plate" / part).mkdir(parents=True)
    for index in range(4):
        sample = synthetic_nuclei((128, 128), n=8, seed=index)
        for part, pixels in (("images", sample.image), ("masks", sample.mask)):
            tifffile.imwrite(tmp_path / "plate" / part / f"{index}.tif", pixels)
    monkeypatch.setattr(_windows, "SHARED_DATA", tmp_path)
    return tmp_path


def test_windows_come_from_images_that_are_not_scored(data: Path) -> None:
    groups = _windows.read("plate")
    few, many = (_windows.draw(groups, 1, count) for count in (2, 6))
    assert [len(few.windows), len(many.windows)] == [2, 6]
    for one, other in zip(few.windows, many.windows, strict=False):
        np.testing.assert_array_equal(one.truth, other.truth)
    for window in many.windows:
        assert (window.truth != 255).sum() == _windows.SIDE**2
        assert not any(window.image is each.image for each in many.scored)
    assert many.classes == ["background", "class 1"]
    truth = [each.truth for each in many.scored]
    assert _windows.mean_dice(many, truth) == 1


def test_a_measurement_goes_on_where_it_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, sections = tmp_path / "state.jsonl", []
    monkeypatch.setattr(
        annotation, "write", lambda section, _: sections.append(section)
    )
    monkeypatch.setattr(annotation, "FIGURE", tmp_path / "curves.png")
    given = ["--kinds", "plate", "--seeds", "1", "--steps", "2", "--state", str(state)]
    given += ["--rounds", ",".join(map(str, ROUNDS))]
    annotation.main([*given, "--arms", "forest,scratch"])
    lines = [json.loads(line) for line in state.read_text().splitlines()]
    assert [(each["arm"], each["windows"]) for each in lines] == [
        (arm, count) for arm in ("forest", "scratch") for count in ROUNDS
    ]
    assert lines[1]["dice"] > 0.8, "a forest finds bright nuclei"
    annotation.main([*given, "--arms", "forest,ours,next,strokes"])
    lines = [json.loads(line) for line in state.read_text().splitlines()]
    assert len(lines) == 10
    assert all(each["effort"] > 0 for each in lines[2:])
    assert (tmp_path / "curves.png").stat().st_size > 1000
    table = sections[-1].text()
    assert "plate: Dice after 4 windows" in table
    assert "forest" in table
    assert "scratch" in table
    assert "less windows chosen by doubt" in table
    assert "Correcting one window" in table
    # Other rounds are another measurement: a network has been through all of them.
    annotation.main([*given[:-1], "4", "--arms", "forest"])
    assert len(state.read_text().splitlines()) == 11
    assert "ours" not in sections[-1].text()


def test_a_user_pays_for_each_error_and_each_pixel() -> None:
    truth = np.zeros((96, 96), np.uint8)
    truth[10:30, 10:30] = 1
    found = truth.copy()
    assert _arms.effort(found, truth) == 0
    found[10:30, 10:20] = 0
    found[60:70, 60:70] = 1
    assert _arms.effort(found, truth) == pytest.approx(300 / 400 + 2 * 0.2)
    known = _arms.painted(found, truth)
    assert (known != 255).sum() == 300
    assert (known[10:30, 10:20] == 1).all()


def test_windows_by_doubt_differ_and_do_not_overlap(data: Path) -> None:
    task = _windows.draw(_windows.read("plate"), 0, 4)
    arm = annotation.learner("next", task, "", 1)
    list(arm(task, (1, 2), 0))
    learner = arm.__self__
    assert len(learner._places) == 2
    assert learner._places[0] == task.boxes[0]
    assert learner._places[1] != learner._places[0]


def test_an_arm_is_named_with_the_options_that_it_changes() -> None:
    options = annotation.options_of("ours+norm_statistics=kept+intensity=0+crop=96")
    assert (options.norm_statistics, options.crop) == ("kept", 96)
    assert options.augmentation.intensity == 0
    assert options.augmentation.scale == annotation.OPTIONS["ours"].augmentation.scale
    assert annotation.start_of("nuclei+crop=96", "plate", []) == ("nuclei", False)
    with pytest.raises(AttributeError):
        annotation.options_of("ours+speed=1")


def test_arms_are_compared_draw_by_draw() -> None:
    arms = {"scratch": {4: [0.5, 0.8]}, "ours": {4: [0.6, 0.79]}}
    line = annotation._against_others("plate", arms, 4)
    assert line["figure"] == "0.695"
    assert line["met"] is False, "the draws differ by more than the arms do"
    assert "ours +0.045, better in 1" in line["detail"]
