"""Prediction on a dask cluster: as on one machine, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from distributed import LocalCluster

from napari_seg import load_model, predict
from napari_seg.cli import predict as command
from napari_seg.cli.distributing import Distributor
from napari_seg.cli.segmenting import Task
from napari_seg.cli.unfinished import Unfinished
from napari_seg.errors import ClusterError, InputError
from napari_seg.inference import cluster as cluster_module
from napari_seg.inference.cluster import Cluster, share_out
from napari_seg.inference.predict import PredictOptions
from napari_seg.inference.remote import stream_on
from napari_seg.models.checkpoint import save_model
from napari_seg.models.registry import create_model
from napari_seg.synthetic import synthetic_nuclei
from tests.cli.conftest import Run

SHAPE = (700, 1100)
MADE = ("mask", "confidence", "instances")
#: Of no class that a model has.
MARK = 9
OPTIONS = PredictOptions(tile=128, confidence=True)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute here as the workers do: sums depend on how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scheduler(one_thread: None) -> Iterator[LocalCluster]:
    """Return a cluster of two workers, which come again when they are lost."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0
    ) as cluster:
        yield cluster


@pytest.fixture
def cluster(scheduler: LocalCluster) -> Iterator[Cluster]:
    with Cluster.connect(scheduler.scheduler_address) as cluster:
        yield cluster


def write_zarr(path: Path, data: np.ndarray[Any, Any], version: Any = 3) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    axes = [{"name": name, "type": "space"} for name in "zyx"[-data.ndim :]]
    step = {"type": "scale", "scale": [0.5] * data.ndim}
    level = {"path": "0", "coordinateTransformations": [step]}
    scales = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    group.attrs.update({"multiscales": scales})
    array = group.create_array(
        "0", shape=data.shape, dtype=data.dtype, chunks=(1, 256, 256)[-data.ndim :]
    )
    array[...] = data
    return path


@pytest.fixture(scope="module")
def field() -> np.ndarray[Any, Any]:
    return synthetic_nuclei(SHAPE, n=150, seed=3).image


def level(path: str | Path) -> Any:
    return zarr.open_group(str(path), mode="r")["0"]


class TestSameMask:
    @pytest.mark.parametrize("version", [2, 3])
    def test_as_on_one_machine_bit_for_bit(
        self,
        run: Run,
        scheduler: LocalCluster,
        model_file: Path,
        field: np.ndarray[Any, Any],
        tmp_path: Path,
        version: int,
    ) -> None:
        write_zarr(tmp_path / "a.zarr", np.stack([field, field[::-1]]), version)
        tifffile.imwrite(tmp_path / "b.tif", field[:80, :90], photometric="minisblack")
        asked = [tmp_path / "a.zarr", tmp_path / "b.tif", "-m", model_file]
        asked += [
            "--confidence",
            "--instances",
            "--split",
            "none",
            "--tile",
            "128",
            "--json",
        ]
        one = run("predict", *asked, "-o", tmp_path / "one").json["outputs"]
        there = ("--scheduler", scheduler.scheduler_address)
        many = run("predict", *asked, "-o", tmp_path / "many", *there).json["outputs"]
        for kind in ("mask", "confidence", "instances"):
            expected, found = level(one[0][kind]), level(many[0][kind])
            np.testing.assert_array_equal(found[:], expected[:])
            assert found.chunks == expected.chunks
            assert np.unique(found[:]).size > 1
            np.testing.assert_array_equal(
                tifffile.imread(many[1][kind]), tifffile.imread(one[1][kind])
            )
        for a, b in zip(one, many, strict=True):
            a.pop("seconds")
            b.pop("seconds")
            moved = {key: str(a[key]).replace("/one/", "/many/") for key in MADE}
            assert b == a | moved
        assert {path.name for path in (tmp_path / "many").iterdir()} == {
            f"{name}_{kind}.{suffix}"
            for name, suffix in (("a", "zarr"), ("b", "tif"))
            for kind in MADE
        }

    def test_without_a_shared_disk(
        self, cluster: Cluster, model_file: Path, field: np.ndarray[Any, Any]
    ) -> None:
        model = load_model(model_file)
        expected = predict(model, field, tile=128, confidence=True)
        found = np.zeros(SHAPE, np.uint8)
        sure = np.zeros(SHAPE, np.float32)
        tiles = list(stream_on(cluster, model, field, options=OPTIONS))
        for tile in tiles:
            found[tile.region] = tile.labels
            sure[tile.region] = tile.confidence
        np.testing.assert_array_equal(found, expected.labels)
        np.testing.assert_array_equal(sure, expected.confidence)
        assert [tile.done for tile in tiles] == list(range(1, len(tiles) + 1))
        assert {tile.total for tile in tiles} == {len(tiles)}

    def test_what_is_seen_of_the_whole_plane(
        self,
        cluster: Cluster,
        field: np.ndarray[Any, Any],
        tmp_path: Path,
    ) -> None:
        field = field[:256, :320]
        torch.manual_seed(1)
        model = create_model("deeplabv3plus", encoder="resnet18", width=8)
        path = save_model(model, tmp_path / "pools")
        expected = predict(load_model(path), field, tile=192, confidence=True)
        sure = np.zeros(field.shape, np.float32)
        options = PredictOptions(tile=192, confidence=True)
        for tile in stream_on(cluster, load_model(path), field, options=options):
            sure[tile.region] = tile.confidence
        np.testing.assert_array_equal(sure, expected.confidence)

        write_zarr(tmp_path / "a.zarr", field)
        task = Task(tmp_path / "out", options, None, None, instances=False)
        segment(Distributor, cluster, load_model(path), task, tmp_path / "a.zarr")
        found = level(tmp_path / "out" / "a_confidence.zarr")
        np.testing.assert_array_equal(found[:], expected.confidence)

    def test_workers_of_this_computer(
        self, run: Run, model_file: Path, tmp_path: Path, one_thread: None
    ) -> None:
        data = synthetic_nuclei((300, 300), n=20).image
        write_zarr(tmp_path / "a.zarr", data)
        asked = ("predict", tmp_path / "a.zarr", "-m", model_file, "--json")
        here = ("--workers", "1", "-o", tmp_path / "out")
        (output,) = run(*asked, *here).json["outputs"]
        expected = predict(load_model(model_file), data).labels
        np.testing.assert_array_equal(level(output["mask"])[:], expected)
        counts = np.bincount(expected.ravel(), minlength=2).tolist()
        assert output["pixels_per_class"] == counts


class Interrupting(Distributor):
    """Marks the first block on the disk as soon as it is done, then does something.

    If the mark is there in the end, nobody has computed that block again.
    """

    marked: Any = None

    def _finish_block(self, place: Any, counts: Any) -> None:
        super()._finish_block(place, counts)
        if self.marked is None:
            image, self.marked = place
            labels = zarr.open_array(str(image.folder("_mask").level), mode="r+")
            for tile in self.marked.tiles:
                labels[tile.core] = MARK
            self.happens()

    def happens(self) -> None:
        """Do nothing."""


class Interrupted(Interrupting):
    """Is interrupted from the keyboard."""

    def happens(self) -> None:
        raise KeyboardInterrupt


class Bereaved(Interrupting):
    """Loses a worker."""

    def happens(self) -> None:
        victim, *_ = self.cluster._client.run(os.getpid).values()
        os.kill(victim, signal.SIGKILL)


def segment(
    kind: type[Distributor], cluster: Cluster, model: Any, task: Task, image: Path
) -> Any:
    """Do what the command does."""
    task.folder.mkdir(exist_ok=True)
    name = cluster.load(model, "cpu", task.options)
    record = Unfinished(task.folder, f"{name} {task}")
    try:
        work = kind(cluster, name, model, task, record, lambda *_: None)
        work.segment([image])
        record.complete()
    finally:
        record.close()
    return work


def expect_marked(mask: Path, expected: np.ndarray[Any, Any], block: Any) -> None:
    """Check that the mask is right, but for the block that was marked."""
    marked = expected.copy()
    for tile in block.tiles:
        marked[tile.core] = MARK
    np.testing.assert_array_equal(level(mask)[:], marked)


class TestInterruption:
    @pytest.fixture
    def task(self, tmp_path: Path) -> Task:
        return Task(tmp_path / "out", OPTIONS, None, None, instances=False)

    @pytest.fixture
    def image(self, tmp_path: Path, field: np.ndarray[Any, Any]) -> Path:
        return write_zarr(tmp_path / "a.zarr", field)

    @pytest.fixture
    def expected(
        self, one_thread: None, model_file: Path, field: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        return predict(load_model(model_file), field, tile=128).labels

    def test_a_worker_that_is_killed_costs_only_what_it_was_at(
        self,
        cluster: Cluster,
        model_file: Path,
        task: Task,
        image: Path,
        expected: np.ndarray[Any, Any],
    ) -> None:
        work = segment(Bereaved, cluster, load_model(model_file), task, image)
        assert not work.failures
        expect_marked(task.folder / "a_mask.zarr", expected, work.marked)

    def test_the_next_call_goes_on(
        self,
        run: Run,
        cluster: Cluster,
        model_file: Path,
        task: Task,
        image: Path,
        expected: np.ndarray[Any, Any],
    ) -> None:
        model = load_model(model_file)
        work = _interrupted(cluster, model, task, image)
        assert not (task.folder / "a_mask.zarr").exists()
        segment(Distributor, cluster, model, task, image)
        expect_marked(task.folder / "a_mask.zarr", expected, work)
        # Nothing but the masks is left, and once more means from the start.
        assert {path.name for path in task.folder.iterdir()} == {
            "a_mask.zarr",
            "a_confidence.zarr",
        }
        segment(Distributor, cluster, model, task, image)
        np.testing.assert_array_equal(level(task.folder / "a_mask.zarr")[:], expected)

    @pytest.mark.parametrize("changed", ["options", "image", "masks"])
    def test_what_was_begun_otherwise_is_no_use(
        self,
        changed: str,
        cluster: Cluster,
        model_file: Path,
        task: Task,
        image: Path,
        field: np.ndarray[Any, Any],
    ) -> None:
        model = load_model(model_file)
        _interrupted(cluster, model, task, image)
        if changed == "options":
            task = replace(task, options=replace(OPTIONS, halo=256))
        elif changed == "image":
            shutil.rmtree(image)
            field = field[:600]
            write_zarr(image, field)
        else:
            shutil.rmtree(task.folder / ".a_mask.zarr.part")
        segment(Distributor, cluster, model, task, image)
        halo = task.options.halo
        expected = predict(model, field, tile=128, halo=halo).labels
        np.testing.assert_array_equal(level(task.folder / "a_mask.zarr")[:], expected)
        assert not list(task.folder.glob(".*"))

    def test_a_finished_image_is_not_done_again(
        self, cluster: Cluster, model_file: Path, task: Task, tmp_path: Path
    ) -> None:
        small = tmp_path / "small.tif"
        tifffile.imwrite(small, np.zeros((64, 64), np.uint8))
        task.folder.mkdir()
        name = "a model"
        record = Unfinished(task.folder, name)
        made = task.folder / "small_mask.tif"
        made.touch()
        record.finish(small, {"input": small, "mask": made})
        record.close()
        record = Unfinished(task.folder, name)
        assert "1 images are done" in record.told
        work = Distributor(cluster, name, None, task, record, lambda *_: None)  # type: ignore[arg-type]
        assert work.segment([small]) == [{"input": str(small), "mask": str(made)}]
        made.unlink()
        assert record.output(small) is None
        record.close()

    def test_a_record_that_was_torn(self, task: Task, image: Path) -> None:
        task.folder.mkdir()
        record = Unfinished(task.folder, "s")
        record.begin(image, {"tile": [1, 1]}, [])
        record.finish_block(image, 3, [5, 6])
        record.close()
        with (task.folder / ".napari-seg-predict.jsonl").open("a") as file:
            file.write('{"block": 4, "ima')
        record = Unfinished(task.folder, "s")
        assert record.blocks(image) == {3: [5, 6]}
        record.close()


def _interrupted(cluster: Cluster, model: Any, task: Task, image: Path) -> Any:
    """Begin, and stop once a block is done; return it."""
    works: list[Interrupted] = []

    class Kept(Interrupted):
        def happens(self) -> None:
            works.append(self)
            super().happens()

    with pytest.raises(KeyboardInterrupt):
        segment(Kept, cluster, model, task, image)
    # What was under way ends, since nothing can stop it.
    deadline = time.monotonic() + 30
    while any(cluster._client.processing().values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return works[0].marked


class TestRefusals:
    def test_no_scheduler(
        self, run: Run, model_file: Path, tmp_path: Path, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(cluster_module, "_PATIENCE", 0.5)
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint8))
        asked = (tmp_path / "a.tif", "-m", model_file, "-o", tmp_path / "out")
        refusal = run("predict", *asked, "--scheduler", "127.0.0.1:9").refusal
        assert "No dask scheduler answers at '127.0.0.1:9'" in refusal
        assert "dask scheduler" in refusal

    def test_a_scheduler_without_workers(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(cluster_module, "_PATIENCE", 1.0)
        with (
            LocalCluster(n_workers=0, dashboard_address=":0") as empty,
            pytest.raises(InputError, match="has no workers; start some with"),
        ):
            Cluster.connect(empty.scheduler_address)

    def test_not_installed(
        self, run: Run, model_file: Path, tmp_path: Path, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(command, "find_spec", lambda name: None)
        asked = ("predict", tmp_path, "-m", model_file, "-o", tmp_path / "out")
        refusal = run(*asked, "--workers", "2").refusal
        assert "pip install 'napari-seg[distributed]'" in refusal
        assert run(*asked, "--workers", "0").status == 2

    def test_one_bad_image_does_not_stop_the_others(
        self, run: Run, scheduler: LocalCluster, model_file: Path, tmp_path: Path
    ) -> None:
        tifffile.imwrite(tmp_path / "good.tif", np.zeros((64, 64), np.uint8))
        (tmp_path / "bad.tif").write_bytes(b"no image")
        write_zarr(tmp_path / "small.zarr", np.zeros((8, 8), np.uint8))
        there = ("--scheduler", scheduler.scheduler_address)
        images = [tmp_path / name for name in ("bad.tif", "good.tif", "small.zarr")]
        ran = run(
            "predict",
            *images,
            "-m",
            model_file,
            "-o",
            tmp_path / "out",
            *there,
            "--json",
        )
        assert ran.status == 2
        told = json.loads(ran.out)
        assert [Path(each["input"]).name for each in told["outputs"]] == ["good.tif"]
        failed = {Path(each["input"]).name for each in told["failed"]}
        assert failed == {"bad.tif", "small.zarr"}
        assert "cannot be read" in ran.err
        assert "8 × 8 pixels" in ran.err
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"good_mask.tif"}

    def test_two_at_once(self, tmp_path: Path) -> None:
        record = Unfinished(tmp_path, "s")
        with pytest.raises(InputError, match=f"process {os.getpid()} .*choose another"):
            Unfinished(tmp_path, "s")
        record.close()
        Unfinished(tmp_path, "s").close()

    def test_a_scheduler_that_goes(self, model_file: Path) -> None:
        model = load_model(model_file)
        image = synthetic_nuclei((2000, 2000), n=9).image
        with LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0", processes=False
        ) as short:
            cluster = Cluster.connect(short.scheduler_address)
            options = PredictOptions(tile=64)
            tiles = stream_on(cluster, model, image, options=options)
            next(tiles)
        with pytest.raises(ClusterError, match="what was finished is kept"):
            list(tiles)
        cluster.close()


def test_several_gpus_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [share_out("auto", place) for place in range(3)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]
    assert share_out("cuda", 1) == "cuda:1"
    # Somebody else's workers have names, and one GPU may have been asked for.
    assert share_out("auto", "tcp://10.0.0.1:44") == "auto"
    assert share_out("cuda:1", 0) == "cuda:1"
    assert share_out("cpu", 0) == "cpu"


def test_what_is_looked_at_comes_first(
    cluster: Cluster, model_file: Path, field: np.ndarray[Any, Any]
) -> None:
    view = (slice(600, 700), slice(1000, 1100))
    tiles = stream_on(
        cluster,
        load_model(model_file),
        field,
        options=OPTIONS,
        look=lambda: ((), view),
    )
    first = next(tiles)
    assert first.box[0].stop > 500
    assert first.box[1].stop > 900
    tiles.close()


def test_a_prediction_that_nobody_wants_ends(
    cluster: Cluster, model_file: Path, field: np.ndarray[Any, Any]
) -> None:
    wanted = True
    tiles = stream_on(
        cluster,
        load_model(model_file),
        field,
        options=PredictOptions(tile=32),
        cancelled=lambda: not wanted,
    )
    next(tiles)
    wanted = False
    assert len(list(tiles)) < 3


def test_a_call_waits_for_a_worker(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the loss of the last worker and the next one there is none."""
    monkeypatch.setattr(cluster, "_workers", dict)
    assert cluster.call(os.getpid) != os.getpid()


def test_an_image_that_is_given_up_stops_no_other(
    cluster: Cluster, model_file: Path, tmp_path: Path, field: np.ndarray[Any, Any]
) -> None:
    """Its blocks that are under way find their masks gone."""

    class GivingUp(Distributor):
        def _finish_block(self, place: Any, counts: Any) -> None:
            self._fail(place[0].path, InputError("it is no use"))

    image = write_zarr(tmp_path / "a.zarr", field)
    task = Task(tmp_path / "out", OPTIONS, None, None, instances=False)
    work = segment(GivingUp, cluster, load_model(model_file), task, image)
    assert list(work.failures) == [image]
    assert not work.outputs
    assert not list((tmp_path / "out").iterdir())


def test_an_image_that_was_replaced_is_opened_anew(
    cluster: Cluster, model_file: Path, tmp_path: Path, field: np.ndarray[Any, Any]
) -> None:
    """Workers that go on may remember the one before."""
    model = load_model(model_file)
    task = Task(tmp_path / "out", OPTIONS, None, None, instances=False)
    for data in (field, field[:400, :500].astype(np.float32)):
        shutil.rmtree(tmp_path / "a.zarr", ignore_errors=True)
        image = write_zarr(tmp_path / "a.zarr", data)
        segment(Distributor, cluster, model, task, image)
        found = level(tmp_path / "out" / "a_mask.zarr")[:]
        np.testing.assert_array_equal(found, predict(model, data, tile=128).labels)
