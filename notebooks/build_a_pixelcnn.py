"""Build a PixelCNN, and check it: a lesson. `marimo edit notebooks/build_a_pixelcnn.py`"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    import rastrum
    from rastrum import ImageSpec, RasterModel
    from rastrum.checking import context_of
    from rastrum.config import DataOptions
    from rastrum.data import load_dataset
    from rastrum.distributions import Bernoulli
    from rastrum.pictures.sheets import context_picture, decided_before

    return (
        Bernoulli,
        DataOptions,
        F,
        ImageSpec,
        RasterModel,
        Tensor,
        context_of,
        context_picture,
        decided_before,
        load_dataset,
        mo,
        nn,
        rastrum,
        torch,
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Build a PixelCNN, and check it

    A PixelCNN is a stack of convolutions that must not look ahead. Masks see to that: of a kernel, everything below the centre and
    to the right of it is set to zero. Mask A also hides the centre; mask B does not. One wrong mask, and the model sees the answer:
    its training loss looks wonderful, and its samples are noise.
    """)
    return


@app.cell
def _(F, Tensor, nn, torch):
    class MaskedConv(nn.Conv2d):
        """A 3x3 convolution of the pixels above and to the left; with mask "B" also of the pixel itself."""

        def __init__(self, inputs: int, outputs: int, mask: str) -> None:
            super().__init__(inputs, outputs, 3, padding=1)
            self.seen = torch.ones(3, 3)
            self.seen[2:] = 0
            self.seen[1, {"A": 1, "B": 2, "none": 3}[mask] :] = 0

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight * self.seen.to(self.weight), self.bias, padding=1)

    return (MaskedConv,)


@app.cell
def _(Bernoulli, ImageSpec, MaskedConv, RasterModel, Tensor, nn):
    class MyPixelCNN(RasterModel):
        """All that Rastrum needs: p(each pixel | the pixels before it), for whole images."""

        def __init__(self, spec: ImageSpec, first: str, further: str) -> None:
            super().__init__(spec)
            masks = [first, further, further]
            sizes = [1, 16, 16, 1]
            self.layers = nn.ModuleList(MaskedConv(i, o, m) for i, o, m in zip(sizes, sizes[1:], masks, strict=False))

        def distribution(self, x: Tensor, condition: Tensor | None = None) -> Bernoulli:
            h = 2 * x.to(self.dtype) - 1
            for layer in self.layers:
                h = layer(h if layer is self.layers[0] else h.relu())
            return Bernoulli(h)

    return (MyPixelCNN,)


@app.cell
def _(mo):
    first = mo.ui.dropdown(["A", "B", "none"], value="A", label="mask of the first layer")
    further = mo.ui.dropdown(["A", "B", "none"], value="B", label="mask of the other layers")
    mo.hstack([first, further], justify="start")
    return first, further


@app.cell
def _(
    ImageSpec,
    MyPixelCNN,
    context_of,
    context_picture,
    decided_before,
    first,
    further,
    mo,
    rastrum,
    torch,
):
    torch.manual_seed(0)
    model = MyPixelCNN(ImageSpec(1, 8, 8, levels=2), first.value, further.value).eval()
    report = rastrum.check(model, progress=False)
    _seen, _allowed = context_of(model, 4 * 8 + 4)
    _earlier = decided_before(model.order, model.spec.shape, (0, 4, 4))
    mo.vstack(
        [
            mo.callout("No fault found." if report.ok else "The check found a fault: read on.", kind="success" if report.ok else "danger"),
            report,
            context_picture(_seen, _seen & _allowed, (0, 4, 4), 28, earlier=_earlier),
        ],
        align="start",
    )
    return model, report


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    `check` changes one pixel at a time and looks which conditionals move. Of images small enough to be listed it
    also adds up the probabilities of all: those of a model that cheats need not add up to one.

    ## Try

    - Set the first mask to B. Which line of the report fails, and where does the picture say that the pixel looks?
    - Set the other masks to A. Nothing is wrong, but something is lost: compare the pixels that are seen.
    - With A and B, look at the upper right. Some earlier pixels are never seen: the blind spot. `gated-pixelcnn` removes it.
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## It is a model like any other

    Sampling, completion, likelihoods and files all work with these thirty lines.
    """)
    return


@app.cell
def _(DataOptions, load_dataset, mo, model, rastrum, report):
    mo.stop(not report.ok, mo.md("Repair the masks first."))
    digits = load_dataset("digits", "train", DataOptions(binarise="threshold"))
    _run = rastrum.train(model, digits, steps=150, held_out=False, progress=False)
    _drawn = rastrum.sample(_run.model, 20, seed=0, progress=False)
    mo.vstack(
        [
            mo.md("After 150 steps on the digits in the package, twenty samples. Three layers of 16 channels are few: blots."),
            rastrum.show(_drawn, columns=10),
            _run,
        ],
        align="start",
    )
    return


if __name__ == "__main__":
    app.run()
