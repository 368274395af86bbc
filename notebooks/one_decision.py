"""One decision after another: a lesson. `marimo edit notebooks/one_decision.py`"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import math

    import marimo as mo
    import torch

    import rastrum
    from rastrum.pictures.formats import picture_of
    from rastrum.pictures.plots import decision_picture, surprise_map

    return decision_picture, math, mo, picture_of, rastrum, surprise_map, torch


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # One decision after another

    A raster model writes an image like a sentence: pixel by pixel, and each pixel is a draw from probabilities that depend on the
    pixels before it. Their product is the probability of the image:

    $$\log p(x) = \sum_t \log p(x_t \mid x_1, \dots, x_{t-1})$$

    Choose a model and let it draw. Then move the slider, and look at what it knew, what it expected, and what it got.
    """)
    return


@app.cell
def _(mo):
    model_name = mo.ui.dropdown(
        {
            "Gated PixelCNN: two levels": "rastrum/gated-pixelcnn-binarized-mnist",
            "Row LSTM: 256 levels of grey": "rastrum/row-lstm-mnist",
            "PixelCNN++: 256 levels of red, green and blue": "rastrum/pixelcnn-plus-plus-cifar10",
        },
        value="Gated PixelCNN: two levels",
        label="model",
    )
    seed = mo.ui.number(0, 99, value=2, label="seed")
    mo.hstack([model_name, seed], justify="start")
    return model_name, seed


@app.cell
def _(math, mo, model_name, rastrum, seed, torch):
    model = rastrum.load(model_name.value)
    image = rastrum.sample(model, 1, seed=seed.value, progress=False)
    with torch.no_grad():
        # all decisions at once: what each of them was drawn from, in one forward pass
        chances = model.distribution(image.long()).log_pmf()[0].exp()
        nats = -model.log_prob_map(image)[0]
    width = model.spec.width
    mo.md(f"{model.spec.size:,} decisions, {float(nats.sum()) / math.log(2):,.0f} bits in all.")
    return chances, image, model, nats, width


@app.cell
def _(mo, model, width):
    step = mo.ui.slider(0, width * model.spec.height - 1, value=width * 9 + 13, label="pixel", full_width=True, show_value=True)
    mo.vstack([step], align="start")
    return (step,)


@app.cell
def _(
    chances,
    decision_picture,
    image,
    math,
    mo,
    model,
    nats,
    picture_of,
    step,
    torch,
    width,
):
    _row, _column = divmod(step.value, width)
    _known = torch.arange(width * model.spec.height).view(-1, width) < step.value
    _decision = decision_picture(
        model.spec.pictures(image)[0], _known, (_row, _column), chances[0, _row, _column], int(image[0, 0, _row, _column])
    )
    _before = float(nats[:, _known].sum()) / math.log(2)
    mo.vstack(
        [
            picture_of(_decision),
            mo.md(f"Before this pixel: {_before:,.1f} bits. Where one bar is near 1, the pixel costs nothing; two even bars cost a bit."),
        ],
        align="start",
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Where are the bits?

    Most pixels are as good as certain. The bits are spent where a stroke begins, where it ends, and along its edges: there the
    model has to decide, and there each draw makes a different image.
    """)
    return


@app.cell
def _(image, mo, model, nats, picture_of, surprise_map):
    mo.vstack([picture_of(surprise_map(model.spec.pictures(image), -nats[None]))], align="start")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Try

    - Find a pixel of the digit that costs more than three bits. What did the model expect, and what would you have expected?
    - With 256 levels of grey, look for a decision with two modes: the model has not made up its mind whether it is still background.
    - The same seed draws the same image, on every machine. Another seed takes another way at the first uncertain pixel.
    """)
    return


if __name__ == "__main__":
    app.run()
