"""PixelCNN in the usual way: NCHW, square kernels times a mask, relu, 1x1 convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from plain.convolutions import MaskedConv2d, copy_taps, nats_of_levels
from rastrum.model import Model
from rastrum.models.pixelcnn import PixelCNN


class PlainPixelCNN(nn.Module):
    def __init__(self, channels: int, hidden: int, layers: int, first: int, kernel: int, colours: int, levels: int) -> None:
        super().__init__()
        self.levels, outputs = levels, colours * (1 if levels == 2 else levels)

        def pointwise(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 1, bias=bias) if colours == 1 else MaskedConv2d(inputs, outputs, 1, "B", colours, bias)

        self.first = MaskedConv2d(colours, 2 * channels, first, "A", colours)
        self.narrow = nn.ModuleList(pointwise(2 * channels, channels) for _ in range(layers))
        self.look = nn.ModuleList(MaskedConv2d(channels, channels, kernel, "B", colours) for _ in range(layers))
        self.widen = nn.ModuleList(pointwise(channels, 2 * channels, bias=False) for _ in range(layers))
        self.hidden, self.logits = pointwise(2 * channels, hidden), pointwise(hidden, outputs)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        h = self.first(x.float() * (2 / (self.levels - 1)) - 1)
        for narrow, look, widen in zip(self.narrow, self.look, self.widen, strict=True):
            h = h + widen(look(narrow(h.relu()).relu()).relu())
        return nats_of_levels(self.logits(self.hidden(h.relu()).relu()), x)


def build(ours: Model) -> nn.Module:
    assert isinstance(ours, PixelCNN) and ours.config.output_layers == 1 and not ours.config.skip
    config, spec = ours.config, ours.spec
    sizes = config.channels, config.hidden, config.layers, config.first_kernel, config.kernel
    plain = PlainPixelCNN(*sizes, spec.channels, spec.levels)
    reach = config.first_kernel // 2
    copy_taps(plain.first, ours.first, (reach, reach))
    for narrow, look, widen, block in zip(plain.narrow, plain.look, plain.widen, ours.blocks, strict=True):
        copy_taps(narrow, block.narrow, (0, 0))
        copy_taps(look, block.look, (config.kernel // 2, config.kernel // 2))
        copy_taps(widen, block.widen, (0, 0))
    copy_taps(plain.hidden, ours.output.hidden, (0, 0))
    copy_taps(plain.logits, ours.output.logits, (0, 0))
    return plain
