"""U-Net's levels, and the strides, dilations and pyramid of the DeepLabs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_seg.models.deeplab import ASPP
from napari_seg.models.encoders import RESNETS, create_resnet
from napari_seg.models.layers import BatchNorm2d, InstanceNorm2d
from napari_seg.models.registry import create_model
from napari_seg.models.unet import NORMS


def ronneberger(weights: dict[str, torch.Tensor], x: torch.Tensor, depth: int):
    """Figure 1 of the paper, written down with padded convolutions."""

    def two_convolutions(name: str, x: torch.Tensor) -> torch.Tensor:
        for layer in (f"{name}.0", f"{name}.3"):
            assert weights[f"{layer}.weight"].shape[2:] == (3, 3)
            parts = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
            x = F.relu(F.conv2d(x, *parts, padding=1))
        return x

    skips = []
    for level in range(depth):
        x = two_convolutions(f"encoder.{level}", x)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = two_convolutions("bottleneck", x)
    for level in range(depth):
        up = f"decoder.{level}.upsample"
        x = F.conv_transpose2d(x, weights[f"{up}.weight"], weights[f"{up}.bias"], 2)
        x = torch.cat([skips.pop(), x], dim=1)
        x = two_convolutions(f"decoder.{level}.convs", x)
    return F.conv2d(x, weights["head.weight"], weights["head.bias"])


class TestUNet:
    @pytest.mark.parametrize("depth", [1, 4])
    def test_is_the_network_of_the_paper(self, depth):
        torch.manual_seed(0)
        model = create_model("unet", width=4, depth=depth, norm="none").eval()
        x = torch.rand(2, 1, 48, 64)
        with torch.no_grad():
            expected = ronneberger(model.state_dict(), x, depth)
            torch.testing.assert_close(model(x), expected)

    @pytest.mark.parametrize("depth", [1, 2, 5])
    def test_channels_double_and_size_halves_with_each_level(self, depth):
        model = create_model("unet", width=4, depth=depth)
        assert len(model.encoder) == len(model.decoder) == depth
        assert model.bottleneck[0].out_channels == 4 * 2**depth
        assert model.stride == 2**depth
        assert model(torch.rand(2, 1, 33, 50)).shape == (2, 2, 33, 50)

    def test_skips_reach_the_decoder(self):
        """Without the bottleneck, what is left comes through the concatenation."""
        model = create_model("unet", width=4, depth=2).eval()
        for parameter in model.bottleneck.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            assert model(torch.rand(1, 1, 32, 32)).std() > 0

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("depth", [4, 5])
    @pytest.mark.parametrize("width", [4, 12])
    def test_every_norm_takes_the_smallest_image(self, norm, depth, width):
        """At depth 5, 32 pixels become one, which has no variance."""
        model = create_model("unet", width=width, depth=depth, norm=norm)
        x = torch.rand(1, 1, 32, 32)
        for mode in (True, False):
            assert model.train(mode)(x).isfinite().all()
        kinds = {
            "batch": BatchNorm2d,
            "group": nn.GroupNorm,
            "instance": InstanceNorm2d,
            "none": nn.Identity,
        }
        assert isinstance(model.bottleneck[1], kinds[norm])
        assert (model.bottleneck[0].bias is None) is (norm != "none")

    def test_encoder_with_skips_at_strides_2_to_16(self):
        model = create_model("unet", encoder="resnet18")
        skips = [block.convs[0].in_channels for block in model.decoder]
        upsampled = [256, 128, 64, 32, 16]
        widths = [skip - up for skip, up in zip(skips, upsampled, strict=True)]
        assert widths == [256, 128, 64, 64, 0]


class TestDilatedEncoder:
    @pytest.mark.parametrize("output_stride", [8, 16, 32])
    @pytest.mark.parametrize("name", ["resnet18", "resnet50"])
    def test_output_stride(self, name, output_stride):
        encoder = create_resnet(name, 3, output_stride).eval()
        with torch.no_grad():
            features = encoder(torch.rand(1, 3, 64, 96))
        strides = [64 // feature.shape[-2] for feature in features]
        expected = [2, 4, 8, 16, 32]
        assert strides == [min(stride, output_stride) for stride in expected]
        assert tuple(feature.shape[1] for feature in features) == encoder.channels

    @pytest.mark.parametrize(
        ("output_stride", "expected"),
        [(32, [{1}, {1}]), (16, [{1}, {1, 2}]), (8, [{1, 2}, {2, 4}])],
    )
    @pytest.mark.parametrize("name", RESNETS)
    def test_stride_is_traded_for_dilation(self, name, output_stride, expected):
        """The convolution that lost its stride has the dilation of the stage before."""
        with torch.device("meta"):
            encoder = create_resnet(name, 3, output_stride)
        stages = (encoder.layer3, encoder.layer4)
        found = [
            [
                layer.dilation[0]
                for layer in stage.modules()
                if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
            ]
            for stage in stages
        ]
        assert [set(dilations) for dilations in found] == expected
        for first, *others in found:
            assert set(others) == {max(first, *others)}
        assert found[1][0] == found[0][-1]

    @pytest.mark.parametrize("name", ["resnet18", "resnet50"])
    @pytest.mark.parametrize("output_stride", [8, 16])
    def test_keeps_the_features_of_the_plain_encoder(self, name, output_stride):
        """Pretrained weights mean the same: the dilated map is only denser."""
        torch.manual_seed(0)
        plain = create_resnet(name, 1).eval()
        dilated = create_resnet(name, 1, output_stride).eval()
        dilated.load_state_dict(plain.state_dict())
        x, step = torch.rand(1, 1, 64, 96), 32 // output_stride
        with torch.no_grad():
            coarse, dense = plain(x)[-1], dilated(x)[-1]
        scale = float(coarse.std())
        torch.testing.assert_close(
            coarse, dense[..., ::step, ::step], rtol=1e-3, atol=1e-3 * scale
        )


class TestASPP:
    @pytest.mark.parametrize(
        ("arch", "output_stride", "rates"),
        [
            ("deeplabv3", None, (12, 24, 36)),
            ("deeplabv3", 8, (12, 24, 36)),
            ("deeplabv3", 16, (6, 12, 18)),
            ("deeplabv3plus", None, (6, 12, 18)),
            ("deeplabv3plus", 16, (6, 12, 18)),
            ("deeplabv3plus", 8, (12, 24, 36)),
        ],
    )
    def test_rates_fit_the_output_stride(self, arch, output_stride, rates):
        """Chen et al. 2017, Sec. 3.3: doubled where the stride is halved."""
        with torch.device("meta"):
            model = create_model(arch, encoder="resnet18", output_stride=output_stride)
        deepest = model.backbone(torch.empty(1, 1, 96, 64, device="meta"))[-1]
        assert 96 // deepest.shape[-2] == model.stride == {6: 16, 12: 8}[rates[0]]
        (aspp,) = (part for part in model.modules() if isinstance(part, ASPP))
        branches = [branch[0] for branch in aspp.convs[:4]]
        assert [branch.kernel_size[0] for branch in branches] == [1, 3, 3, 3]
        assert tuple(branch.dilation[0] for branch in branches[1:]) == rates
        assert all(b.padding == b.dilation for b in branches[1:])

    def test_separable_convolutions_are_depthwise_then_pointwise(self):
        """Chen et al. 2018, Sec. 3.1: in ASPP at its rates, and in the decoder."""
        with torch.device("meta"):
            model = create_model("deeplabv3plus", encoder="resnet50", separable=True)
        for part, inputs, rate in [
            (model.aspp.convs[1], 2048, 6),
            (model.aspp.convs[2], 2048, 12),
            (model.aspp.convs[3], 2048, 18),
            (model.decoder[0], 256 + 48, 1),
            (model.decoder[1], 256, 1),
        ]:
            depthwise, pointwise = (m for m in part if isinstance(m, nn.Conv2d))
            assert depthwise.weight.shape == (inputs, 1, 3, 3)
            assert depthwise.dilation == depthwise.padding == (rate, rate)
            assert pointwise.weight.shape == (256, inputs, 1, 1)

    def test_image_pooling_spreads_the_mean_over_the_map(self):
        torch.manual_seed(0)
        pooling = ASPP(8, (6, 12, 18)).eval().convs[-1]
        x = torch.rand(1, 8, 6, 7)
        with torch.no_grad():
            spread = pooling(x)
            mean = pooling(x.mean(dim=(2, 3), keepdim=True))
        assert spread.shape == (1, 256, 6, 7)
        torch.testing.assert_close(spread, mean.expand_as(spread))

    def test_low_level_skip_has_48_channels_at_stride_4(self):
        model = create_model("deeplabv3plus", encoder="resnet18").eval()
        seen: list[torch.Size] = []
        model.low_level.register_forward_hook(lambda *a: seen.append(a[-1].shape))
        with torch.no_grad():
            model(torch.rand(1, 1, 64, 96))
        assert seen == [(1, 48, 16, 24)]


class TestBatchNorm:
    def test_is_torchs_wherever_there_is_a_variance(self):
        ours, theirs = BatchNorm2d(3), nn.BatchNorm2d(3)
        x = torch.rand(2, 3, 4, 5)
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(ours.running_var, theirs.running_var)

    @pytest.mark.parametrize("values", [2, 15])
    def test_few_values_are_scaled_as_in_prediction_and_learned_from(self, values):
        layer, x = BatchNorm2d(3), torch.rand(values, 3, 1, 1)
        layer(torch.rand(2, 3, 4, 4))
        before = layer.running_mean.clone()
        x.requires_grad_()
        trained = layer(x)
        trained.square().mean().backward()
        assert x.grad.any()
        mean = 0.9 * before + 0.1 * x.mean(dim=(0, 2, 3))
        torch.testing.assert_close(layer.running_mean, mean)
        torch.testing.assert_close(trained, layer.eval()(x))

    def test_single_values_are_scaled_by_what_was_seen_before(self):
        layer, x = BatchNorm2d(3), torch.rand(1, 3, 1, 1)
        layer(torch.rand(2, 3, 4, 4))
        statistics = layer.running_mean.clone()
        trained = layer(x)
        assert torch.equal(layer.running_mean, statistics)
        torch.testing.assert_close(trained, layer.eval()(x))
