"""Receptive fields: a lesson. `marimo edit notebooks/receptive_fields.py`"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo
    import torch

    import rastrum
    from rastrum import ImageSpec
    from rastrum.applications.dependencies import dependency_strengths
    from rastrum.checking import context_of
    from rastrum.pictures.formats import picture_of
    from rastrum.pictures.plots import dependency_picture
    from rastrum.pictures.sheets import context_picture, decided_before

    return (
        ImageSpec,
        context_of,
        context_picture,
        decided_before,
        dependency_picture,
        dependency_strengths,
        mo,
        picture_of,
        rastrum,
        torch,
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # What does a pixel see?

    Every raster model may look at all earlier pixels. Few do. A PixelCNN has a blind spot, a Row LSTM sees a triangle that leans to
    the left, a Diagonal BiLSTM sees nearly everything. Nothing below is drawn from theory: pixels are changed, one by one, and the
    picture shows whose conditionals move.
    """)
    return


@app.cell
def _(mo):
    name = mo.ui.dropdown(["pixelcnn", "gated-pixelcnn", "row-lstm", "diagonal-bilstm", "pixelcnn++"], value="pixelcnn", label="model")
    layers = mo.ui.slider(1, 6, value=2, label="layers", show_value=True)
    row = mo.ui.slider(0, 12, value=9, label="row", show_value=True)
    column = mo.ui.slider(0, 12, value=6, label="column", show_value=True)
    mo.hstack([name, layers, row, column], justify="start", wrap=True)
    return column, layers, name, row


@app.cell
def _(
    ImageSpec,
    column,
    context_of,
    context_picture,
    decided_before,
    layers,
    mo,
    name,
    rastrum,
    row,
):
    _depth = {} if name.value == "pixelcnn++" else {"layers": layers.value}
    _model = rastrum.build(name.value, ImageSpec(1, 13, 13, levels=2), preset="tiny", **_depth)
    _at = (0, row.value, column.value)
    _seen, _allowed = context_of(_model, row.value * 13 + column.value)
    _earlier = int(decided_before(_model.order, _model.spec.shape, _at).sum())
    mo.vstack(
        [
            context_picture(_seen, _allowed, _at, 20, earlier=decided_before(_model.order, _model.spec.shape, _at)),
            mo.md(f"It sees {int(_seen.sum())} of the {_earlier} pixels before it."),
        ],
        align="start",
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## What it may see, and what it uses

    A trained model does not use all that it sees. Here each earlier pixel of digits is replaced by that of another digit, and the
    colour says by how much the probabilities of the marked pixel move.
    """)
    return


@app.cell
def _(mo):
    place = mo.ui.dropdown({"middle": (14, 14), "lower left": (20, 9), "upper right": (8, 18)}, value="middle", label="pixel")
    mo.hstack([place], justify="start")
    return (place,)


@app.cell
def _(
    dependency_picture,
    dependency_strengths,
    mo,
    picture_of,
    place,
    rastrum,
    torch,
):
    _trained = rastrum.load("rastrum/gated-pixelcnn-binarized-mnist")
    _digits = rastrum.sample(_trained, 6, seed=3, progress=False)
    _strength = dependency_strengths(_trained, _digits, *place.value)
    mo.vstack([picture_of(dependency_picture(_strength, (0, *place.value)))], align="start")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Try

    - How many layers does a PixelCNN need until the blind spot is all that is missing? And a Gated PixelCNN until nothing is?
    - Move the pixel of a Row LSTM to the right border. Which pixels can it never see?
    - In the trained model the neighbours matter most. Is there anything far away that matters still?
    """)
    return


if __name__ == "__main__":
    app.run()
