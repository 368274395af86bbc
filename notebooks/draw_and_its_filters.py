"""DRAW and its filters: a lesson. `marimo edit notebooks/draw_and_its_filters.py`"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo

    import rastrum
    from rastrum.pictures.formats import picture_of
    from rastrum.pictures.plots import window_plot
    from rastrum.pictures.windows import Filters, window_of

    return Filters, mo, picture_of, rastrum, window_of, window_plot


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # DRAW, and how it looks

    DRAW paints on a canvas, stroke by stroke, and looks at the image through a small window: a grid of N x N Gaussian filters. Five
    numbers say where the window is, how wide, how blurred and how strong. Move them by hand first.
    """)
    return


@app.cell
def _(mo):
    count = mo.ui.slider(1, 20, value=8, label="filters N", show_value=True)
    row = mo.ui.slider(0, 27, value=13, label="g_Y", show_value=True)
    column = mo.ui.slider(0, 27, value=13, label="g_X", show_value=True)
    stride = mo.ui.slider(0.2, 6, step=0.2, value=2, label="stride δ", show_value=True)
    sigma = mo.ui.slider(0.2, 4, step=0.2, value=0.6, label="blur σ", show_value=True)
    mo.vstack(
        [mo.hstack([count, row, column], justify="start", wrap=True), mo.hstack([stride, sigma], justify="start", wrap=True)], align="start"
    )
    return column, count, row, sigma, stride


@app.cell
def _(rastrum):
    digits = rastrum.sample(rastrum.load("rastrum/row-lstm-mnist-classes"), 10, list(range(10)), seed=5, progress=False)
    return (digits,)


@app.cell
def _(
    Filters,
    column,
    count,
    digits,
    mo,
    picture_of,
    rastrum,
    row,
    sigma,
    stride,
    window_of,
    window_plot,
):
    _filters = Filters(row.value, column.value, stride.value, sigma.value)
    _spec = rastrum.ImageSpec(1, 28, 28)
    _five = digits.pictures()[5:6].double()
    mo.vstack([picture_of(window_plot(_five, window_of([_filters], count.value, _spec), [str(_filters)]))], align="start")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    The patch is what the network gets of the image; written back through the same filters it is what the network can paint. A wide
    window with few filters sees the whole digit, badly. A narrow one sees a stroke, sharply.

    ## Who moves the window?

    The decoder, anew at each stroke, from what it has painted so far. Here the bundled DRAW redraws a digit that another model
    drew: its window, the glimpse, what is missing, the stroke, and the canvas.
    """)
    return


@app.cell
def _(mo):
    which = mo.ui.slider(0, 9, value=5, label="digit", show_value=True)
    mo.hstack([which], justify="start")
    return (which,)


@app.cell
def _(digits, mo, rastrum, which):
    draw = rastrum.load("rastrum/draw-binarized-mnist")
    _digit = digits[which.value : which.value + 1]
    strokes = list(rastrum.reconstruct(draw, _digit, seed=0))
    mo.vstack([rastrum.animate(strokes, draw, images=_digit, fps=4, progress=False)], align="start")
    return (draw,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Without a digit in front of it

    Sampling, the encoder does not run: z comes from N(0, I), and each stroke answers the last.
    """)
    return


@app.cell
def _(mo):
    seed = mo.ui.number(0, 99, value=4, label="seed")
    temperature = mo.ui.slider(0.3, 1.5, step=0.1, value=1.0, label="temperature", show_value=True)
    mo.hstack([seed, temperature], justify="start")
    return seed, temperature


@app.cell
def _(draw, mo, rastrum, seed, temperature):
    mo.vstack(
        [
            rastrum.animate(rastrum.generate(draw, 8, seed=seed.value, temperature=temperature.value), draw, fps=4, progress=False),
            mo.md("A low temperature draws the most usual digits, all alike; a high one draws strokes that no digit has."),
        ],
        align="start",
    )
    return


if __name__ == "__main__":
    app.run()
