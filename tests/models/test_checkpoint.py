"""Model files: what goes in comes out, and nothing unsafe is opened."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy

from napari_seg.errors import InputError, ModelFileError, StorageError
from napari_seg.models import checkpoint
from napari_seg.models.catalog import bundled_models, read_spec
from napari_seg.models.checkpoint import load_model, save_model
from napari_seg.models.registry import create_model
from napari_seg.models.spec import ModelSpec, Normalization


@pytest.fixture
def trained(small_unet):
    """A model with all that a file has to carry."""
    model = small_unet()
    model.train()(torch.rand(2, 2, 32, 32))
    history = {"steps": 40, "dice_after": 0.91, "dice_before": None}
    model.spec = replace(
        model.spec,
        name="mein Modell – µm",
        normalization=Normalization(2.0, 99.0),
        history=(history,),
    )
    return model.eval()


class TestRoundTrip:
    def test_weights_come_back_bit_for_bit(self, trained, tmp_path):
        loaded = load_model(save_model(trained, tmp_path / "a.safetensors"))
        assert not loaded.training
        assert loaded.state_dict().keys() == trained.state_dict().keys()
        for key, value in trained.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value), key
            assert loaded.state_dict()[key].dtype == value.dtype

    def test_description_comes_back(self, trained, tmp_path):
        path = save_model(trained, tmp_path / "a.safetensors")
        assert load_model(path).spec == trained.spec == read_spec(path)

    def test_half_precision_halves_the_file_and_hardly_moves_the_answer(
        self, trained, tmp_path
    ):
        full = save_model(trained, tmp_path / "full.safetensors")
        half = save_model(trained, tmp_path / "half.safetensors", half=True)
        assert half.stat().st_size < 0.65 * full.stat().st_size
        loaded, x = load_model(half), torch.rand(1, 2, 40, 40)
        assert loaded.head.weight.dtype == torch.float32
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), trained(x), atol=0.02, rtol=0.02)

    def test_half_precision_leaves_out_what_it_cannot_hold(self, trained, tmp_path):
        trained.bottleneck[1].running_var.fill_(1e6)
        loaded = load_model(save_model(trained, tmp_path / "half", half=True))
        assert torch.all(loaded.bottleneck[1].running_var == 1e6)

    def test_memory_layout_after_training_does_not_matter(self, trained, tmp_path):
        trained.to(memory_format=torch.channels_last)
        loaded = load_model(save_model(trained, tmp_path / "a"))
        assert torch.equal(loaded.encoder[0][0].weight, trained.encoder[0][0].weight)

    def test_auxiliary_head_is_kept(self, tmp_path):
        model = create_model("fcn", encoder="resnet18", auxiliary_head=True)
        loaded = load_model(save_model(model, tmp_path / "fcn"))
        torch.testing.assert_close(
            loaded.aux_classifier[4].weight, model.aux_classifier[4].weight
        )

    def test_atrous_options_are_kept_and_old_files_have_the_usual_ones(
        self, tmp_path, monkeypatch
    ):
        model = create_model(
            "deeplabv3plus", encoder="resnet18", output_stride=8, separable=True
        ).eval()
        loaded = load_model(save_model(model, tmp_path / "fine"))
        assert (loaded.spec.output_stride, loaded.spec.separable) == (8, True)
        assert loaded.stride == 8
        x = torch.rand(1, 1, 48, 40)
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), model(x))

        usual = create_model("deeplabv3plus", encoder="resnet18")
        written = usual.spec.to_dict()
        old = {
            k: v for k, v in written.items() if k not in ("output_stride", "separable")
        }
        assert len(old) == len(written) - 2
        monkeypatch.setattr(ModelSpec, "to_dict", lambda _: old)
        assert load_model(save_model(usual, tmp_path / "old")).stride == 16

    def test_suffix_is_added_and_folders_are_made(self, trained, tmp_path):
        path = save_model(trained, tmp_path / "models" / "v1.2")
        assert path == tmp_path / "models" / "v1.2.safetensors"
        assert path.is_file()

    def test_bundled_models_load_by_name(self):
        assert "nuclei" in bundled_models()
        for name in bundled_models():
            model = load_model(name)
            assert model.spec.classes[0] == "background"
            assert all(value.isfinite().all() for value in model.parameters())

    @pytest.mark.parametrize("length", [0x80, 0x180, 0x4B50])
    def test_any_length_of_the_header_is_read(self, trained, tmp_path, length):
        """A header of 0x…80 bytes begins as a pickle does, one of 0x4B50 as a zip."""
        path = save_model(trained, tmp_path / "a.safetensors")
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        while length < size:
            length += 0x10000
        header = data[8 : 8 + size].ljust(length)
        path.write_bytes(length.to_bytes(8, "little") + header + data[8 + size :])
        assert load_model(path).spec == trained.spec


class TestRefused:
    def test_pickled_files_in_both_of_torchs_formats(self, trained, tmp_path):
        for zipped in (True, False):
            path = tmp_path / "model.pt"
            torch.save(
                trained.state_dict(), path, _use_new_zipfile_serialization=zipped
            )
            with pytest.raises(
                ModelFileError, match=r"pickled.*safetensors files only"
            ):
                load_model(path)

    def test_a_pickle_under_our_suffix_is_never_run(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "exploded",))

        path = tmp_path / "model.safetensors"
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ModelFileError, match="pickled"):
            load_model(path)
        assert not (tmp_path / "exploded").exists()

    def test_zip(self, tmp_path):
        path = tmp_path / "model.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("data.pkl", b"")
        with pytest.raises(ModelFileError, match="pickled"):
            load_model(path)

    def test_files_of_other_programs(self, tmp_path):
        path = tmp_path / "other.safetensors"
        save_numpy({"weight": np.zeros(3, np.float32)}, path)
        with pytest.raises(ModelFileError, match="another program"):
            load_model(path)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
    def test_files_that_were_cut_off(self, trained, tmp_path, share):
        path = save_model(trained, tmp_path / "a.safetensors")
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ModelFileError, match="damaged, or cut off"):
            load_model(path)

    def test_text(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("This is not a model.\n" * 50)
        with pytest.raises(ModelFileError, match="not a readable safetensors file"):
            load_model(path)

    def test_what_is_not_there_or_a_folder(self, tmp_path):
        for path in (tmp_path / "missing.safetensors", tmp_path):
            with pytest.raises(ModelFileError, match=r"or the name of .* \(.*nuclei"):
                load_model(path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"arch": "transformer9"}, "this version of napari-seg cannot build"),
            ({"norm": "layer"}, "this version of napari-seg cannot build"),
            ({"width": 5}, "do not fit its description"),
            ({"classes": ["background"]}, "description in .* cannot be read"),
            ({"depth": -1}, "description in .* cannot be read"),
            ({"in_channels": "two"}, "description in .* cannot be read"),
            ({"normalization": {"low": 99, "high": 1}}, "cannot be read"),
        ],
    )
    def test_descriptions_that_make_no_sense(
        self, trained, tmp_path, monkeypatch, changes, message
    ):
        given = trained.spec.to_dict() | changes
        monkeypatch.setattr(ModelSpec, "to_dict", lambda _: given)
        path = save_model(trained, tmp_path / "odd")
        with pytest.raises(ModelFileError, match=message):
            load_model(path)

    def test_descriptions_of_later_versions_are_read(
        self, trained, tmp_path, monkeypatch
    ):
        given = trained.spec.to_dict() | {"invented_later": 1}
        monkeypatch.setattr(ModelSpec, "to_dict", lambda _: given)
        assert load_model(save_model(trained, tmp_path / "new")).spec == trained.spec


class TestSaving:
    def test_full_disk_leaves_the_old_file_and_no_rest(
        self, trained, small_unet, tmp_path, monkeypatch
    ):
        path = save_model(trained, tmp_path / "a.safetensors")
        before = path.read_bytes()

        def full_disk(tensors, partial, metadata):
            Path(partial).write_bytes(b"half a file")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(checkpoint, "save_file", full_disk)
        with pytest.raises(StorageError, match=r"No space left.*Free some space"):
            save_model(small_unet(), path)
        assert path.read_bytes() == before
        assert list(tmp_path.glob("**/*.safetensors*")) == [path]

    @pytest.mark.skipif(os.name == "nt", reason="Windows cannot limit a file's size")
    def test_a_file_that_can_grow_no_further_leaves_nothing(self, trained, tmp_path):
        """The same without a mock: the kernel refuses to write beyond 4 kB."""
        import resource

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(StorageError):
                save_model(trained, tmp_path / "models" / "a")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list((tmp_path / "models").iterdir()) == []

    def test_the_file_appears_only_when_it_is_whole(
        self, trained, tmp_path, monkeypatch
    ):
        path, write = tmp_path / "a.safetensors", checkpoint.save_file

        def watch(tensors, partial, metadata):
            write(tensors, partial, metadata)
            assert not path.exists()

        monkeypatch.setattr(checkpoint, "save_file", watch)
        save_model(trained, path)
        assert path.is_file()

    def test_a_file_where_a_folder_should_be(self, trained, tmp_path):
        (tmp_path / "taken").write_text("")
        with pytest.raises(StorageError, match="choose another folder"):
            save_model(trained, tmp_path / "taken" / "a.safetensors")

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
    def test_others_may_read_it_as_any_new_file(self, trained, tmp_path):
        (tmp_path / "plain").touch()
        path = save_model(trained, tmp_path / "a")
        modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, tmp_path / "plain")]
        assert modes[0] == modes[1]


class TestSpec:
    def test_survives_json(self, trained):
        values = json.loads(json.dumps(trained.spec.to_dict()))
        assert ModelSpec.from_dict(values) == trained.spec

    def test_history_grows_and_the_old_spec_stays(self, trained):
        grown = trained.spec.with_history({"steps": 7})
        assert grown.history[:-1] == trained.spec.history
        assert grown.history[-1] == {"steps": 7}
        assert len(trained.spec.history) == 1

    @pytest.mark.parametrize("bounds", [(-1, 50), (50, 50), (0, 101), (60, 40)])
    def test_percentiles_must_be_in_order(self, bounds):
        with pytest.raises(InputError, match="0 <= low < high <= 100"):
            Normalization(*bounds)

    def test_label_names_the_encoder(self, trained):
        assert trained.spec.label == "unet"
        assert replace(trained.spec, encoder="resnet18").label == "unet (resnet18)"
