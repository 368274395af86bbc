"""The autoencoder with a PixelCNN decoder: its loss, its gradient, its samples; and the usual decoder of the same size."""

from __future__ import annotations

import pytest
import torch

import rastrum
from rastrum import ImageSpec
from rastrum.applications.autoencoder import PixelCNNAutoencoder, SquaredErrorAutoencoder
from rastrum.data.dataset import load_dataset

SPEC = ImageSpec(1, 6, 5, 4)


def drawing(spec: ImageSpec = SPEC, size: int = 3) -> PixelCNNAutoencoder:
    torch.manual_seed(0)
    return PixelCNNAutoencoder(spec, size, features=4, channels=6, layers=2, hidden=9)


def images(spec: ImageSpec, count: int) -> torch.Tensor:
    return torch.randint(spec.levels, (count, *spec.shape), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spec", [SPEC, ImageSpec(3, 5, 9, 4)])
def test_the_loss_is_the_decoders_and_its_gradient_reaches_the_encoder(spec: ImageSpec) -> None:
    """−log p(x | h(x)), and finite differences in float64 agree with the gradient of the encoder's first and last weights through it."""
    network, x = drawing(spec).double(), images(spec, 4)
    with torch.no_grad():
        assert torch.allclose(network.loss(x), -network.decoder.log_prob(x, network.map_of(network.encode(x))))
    network.loss(x).sum().backward()
    for weight in (network.halvings[0].weight, network.to_code.weight):  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(weight, torch.nn.Parameter) and weight.grad is not None
        at = int(weight.grad.abs().argmax())
        with torch.no_grad():
            sides = []
            for shift in (1e-5, -2e-5):
                weight.view(-1)[at] += shift
                sides.append(network.loss(x).sum().item())
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(weight.grad.view(-1)[at].item(), rel=1e-4)
        with torch.no_grad():
            weight.view(-1)[at] += 1e-5


def test_drawings_depend_on_the_code_and_the_seed() -> None:
    """The decoder is a model like any other: `sample` given the map of h draws the same; another h or seed gives other images."""
    network, x = drawing(), images(SPEC, 6)
    with torch.no_grad():
        network.to_code.weight.mul_(3000)                                  # it starts near 0: make the map matter
        code = network.encode(x)
        spatial_map = network.map_of(code)
    drawn = network.reconstruct(x, seed=3)
    assert drawn.shape == (6, *SPEC.shape) and drawn.dtype == torch.uint8
    assert torch.equal(drawn, network.decode(code, seed=3)) and torch.equal(drawn, rastrum.sample(network.decoder, 6, spatial_map, seed=3))
    assert torch.equal(drawn, network.decode(code.double().numpy(), seed=3))
    assert not torch.equal(drawn, network.decode(code, seed=4)) and not torch.equal(drawn, network.decode(code.flip(0), seed=3))


def test_the_other_decoder_has_the_same_size_and_learns_the_mean() -> None:
    """It has the requested parameters within 5 %; without information in h its best output is the mean, and its loss the variance."""
    parameters = 20_000
    network = SquaredErrorAutoencoder(ImageSpec(1, 8, 8, 17), 4, parameters)
    encoder = sum(p.numel() for name, p in network.named_parameters() if name.startswith(("halvings", "to_code")))
    assert abs(sum(p.numel() for p in network.parameters()) - encoder - parameters) <= 0.05 * parameters
    x = load_dataset("digits", "train").images[:200]
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(200):
        optimiser.zero_grad()
        network.loss(x).mean().backward()
        optimiser.step()
    unit = x / 16
    with torch.no_grad():
        informed = network.loss(x).mean()
        network.to_code.weight.zero_()
        blind = network.loss(x).mean()
    spread = (unit - unit.mean(0)).square().flatten(1).sum(1).mean()
    assert informed < 0.8 * spread and blind > 0.999 * spread
    assert network.picture(torch.zeros(2, 4)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: drawing(size=0), "size: expected a whole number"),
        (lambda: PixelCNNAutoencoder(SPEC, 3, features=0), "features"),
        (lambda: drawing(ImageSpec(1, 4, 4, 2, frames=2)), "still images"),
        (lambda: SquaredErrorAutoencoder(SPEC, 3, 10), "no decoder of this kind"),
        (lambda: drawing().encode(torch.zeros(2, 1, 5, 5, dtype=torch.int64)), "shape"),
        (lambda: drawing().decode(torch.zeros(2, 4)), "code: expected 3 finite values"),
        (lambda: drawing().decode(torch.zeros(3)), "code: expected 3 finite values"),
        (lambda: drawing().decode(torch.full((2, 3), float("nan"))), "code: expected 3 finite values"),
        (lambda: drawing().decode("three"), "code: expected an array"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_bad_input(make, message: str) -> None:
    """Each is refused with a line that names what is wrong."""
    with pytest.raises(ValueError, match=message):
        make()
