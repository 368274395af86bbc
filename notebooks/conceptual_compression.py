"""Conceptual compression against JPEG: a lesson. `marimo edit notebooks/conceptual_compression.py`"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo
    import numpy as np
    import torch

    import rastrum
    from rastrum.applications.rates import by_format, by_model, usual_formats
    from rastrum.data.textures import dead_leaves
    from rastrum.pictures.rates import draw_rates

    return (
        by_format,
        by_model,
        dead_leaves,
        draw_rates,
        mo,
        np,
        rastrum,
        torch,
        usual_formats,
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # What to keep of a picture

    JPEG keeps what the eye notices of every 8x8 block. A convolutional DRAW keeps what *it* learned matters first: the latents of
    its first strokes hold the layout, those of the last ones texture. Cut its file anywhere, and it draws the rest: from its prior,
    or at the prior's mean.

    The pictures here are 32x32, three drawn by a PixelCNN++ that was trained on photographs (chosen from thirteen),
    two made of overlapping disks.
    """)
    return


@app.cell
def _(dead_leaves, mo, np, rastrum, torch):
    model = rastrum.load("rastrum/conv-draw-cifar10-files")
    _drawn = rastrum.sample(rastrum.load("rastrum/pixelcnn-plus-plus-cifar10"), 13, seed=0, progress=False).plain[[3, 8, 12]]
    _grey = np.stack([dead_leaves(32, np.random.RandomState(seed)) for seed in (3, 9)])
    _disks = torch.from_numpy(_grey)[:, None].expand(-1, 3, -1, -1).to(_drawn)
    images = rastrum.Images(torch.cat([_drawn, _disks]), 256)
    mo.vstack([rastrum.show(images, columns=5)], align="start")
    return images, model


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## At the same number of bits

    Headers and tables are left out of the comparison: at such rates they would be most of a JPEG file.
    """)
    return


@app.cell
def _(mo):
    bits = mo.ui.slider(steps=[150, 300, 600, 1200, 2400], value=600, label="bits per picture", show_value=True)
    mo.hstack([bits], justify="start")
    return (bits,)


@app.cell
def _(bits, by_format, by_model, draw_rates, images, mo, model, usual_formats):
    _rates = [float(bits.value)]
    _formats = [by_format(each, images.plain, 256, _rates)[0] for each in usual_formats()]
    _ours = next(by_model(model, images.plain, _rates))
    mo.vstack([draw_rates(images.pictures(), {f"{bits.value} bits per picture": [*_formats, *_ours]})(None, None)], align="start")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    Left of each row: bits of the payload, bits of the whole file, and PSNR in dB, means of the pictures. PSNR rewards blur: "rest at
    mean" is nearer to the picture than "rest drawn" is, though what is drawn has texture and often looks more like one.

    ## Try

    - At 150 and 300 bits, which pictures have lost their colours, and which still have the right ones? Who invented something?
    - Compare whole files. Ours has 104 bits of header; the tables of a JPEG file take more than 2,000.
    - At 2,400 bits the formats win: this model has said all that it knows after some 1,300 bits. It is small, and was trained for less than
      half an hour. (Its lossless files go on from there, to the last bit.)
    - The disks are unlike anything that the model has seen in training. Where does it show?
    """)
    return


if __name__ == "__main__":
    app.run()
