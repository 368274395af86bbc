"""Is this image unusual? A decision on your folder: a lesson. `marimo edit notebooks/anomaly_decision.py`"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    from pathlib import Path
    from tempfile import mkdtemp

    import marimo as mo
    import torch
    from PIL import Image

    import rastrum
    from rastrum.applications.anomaly import scores
    from rastrum.applications.detector import Detector
    from rastrum.config import DataOptions
    from rastrum.data import Dataset, load_dataset
    from rastrum.evaluation import image_nats
    from rastrum.pictures.formats import picture_of as picture
    from rastrum.pictures.plots import surprise_map

    return (
        DataOptions,
        Dataset,
        Detector,
        Image,
        Path,
        image_nats,
        load_dataset,
        mkdtemp,
        mo,
        picture,
        rastrum,
        scores,
        surprise_map,
        torch,
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Is this image unusual?

    A likelihood alone does not say so: under the model below a blank page is far likelier than any digit (33 nats against 86). A
    decision needs something to compare with: what do *usual* images score under the model? Then p(x) = the share of usual images that
    surprise at least as much, and a rate of false alarms that you choose.
    """)
    return


@app.cell
def _(Dataset, Detector, mo, rastrum, torch):
    model = rastrum.load("rastrum/gated-pixelcnn-binarized-mnist")
    writer = rastrum.load("rastrum/row-lstm-mnist-classes")
    _written = rastrum.sample(writer, 80, torch.arange(80) % 10, seed=1, progress=False)
    usual = Dataset("usual digits", "reference", model.spec, _written.plain)
    detector = Detector.fit(model, usual)
    mo.vstack([rastrum.show(usual, most=20, columns=10, title="usual"), detector], align="start")
    return detector, model, writer


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## A folder

    This one was made here: five digits and three images that are none. Give the path of yours, of 28x28 or larger images.
    """)
    return


@app.cell
def _(Image, Path, mkdtemp, mo, rastrum, torch, writer):
    example = Path(mkdtemp())
    _digits = rastrum.sample(writer, 5, [0, 2, 4, 6, 8], seed=9, progress=False).plain
    _noise = torch.randint(0, 2, (1, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    _board = (torch.arange(28)[:, None] // 4 + torch.arange(28) // 4)[None, None] % 2
    _images = {f"digit-{i}": image for i, image in enumerate(_digits)}
    _images |= {"noise": _noise[0], "board": _board[0], "negative": 1 - _digits[0]}
    for _name, _levels in _images.items():
        Image.fromarray((255 * _levels[0]).byte().numpy()).save(example / f"{_name}.png")
    folder = mo.ui.text(value=str(example), label="folder", full_width=True)
    mo.vstack([folder], align="start")
    return (folder,)


@app.cell
def _(mo):
    alarm = mo.ui.slider(steps=[0.02, 0.05, 0.1, 0.2], value=0.05, label="rate of false alarms", show_value=True)
    rank_by = mo.ui.dropdown({"bits less PNG bits": "less-png", "bits": "bits"}, value="bits less PNG bits", label="rank by")
    mo.hstack([alarm, rank_by], justify="start")
    return alarm, rank_by


@app.cell
def _(
    DataOptions,
    Path,
    alarm,
    detector,
    folder,
    image_nats,
    load_dataset,
    mo,
    model,
    rank_by,
    rastrum,
    scores,
):
    mine = load_dataset(folder.value, "all", DataOptions(size=28, grey=True, binarise="threshold"))
    found = scores(model.spec, mine.images, image_nats(model, mine))
    p = detector.p_values(found, rank_by.value)
    unusual = p <= alarm.value
    _names = [Path(name).stem for name in mine.names or map(str, range(len(mine)))]
    mo.vstack(
        [
            rastrum.show(
                mine.images,
                2,
                columns=4,
                scale=5,
                labels=[f"{name}: p = {float(each):.2f}{' !' * bool(bad)}" for name, each, bad in zip(_names, p, unusual, strict=True)],
            ),
            mo.md(f"{int(unusual.sum())} of {len(p)} are called unusual. With 80 usual images, p cannot be less than 1/81 = {1 / 81:.3f}."),
        ],
        align="start",
    )
    return (mine,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Where does it surprise?

    A decision that can be looked at: brighter pixels were less expected, given those before them.
    """)
    return


@app.cell
def _(mine, mo, model, picture, surprise_map, torch):
    with torch.no_grad():
        _where = model.log_prob_map(mine.images)
    mo.vstack([picture(surprise_map(model.spec.pictures(mine.images), _where))], align="start")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Try

    - The negative of a digit is not called unusual: it has twice the bits of a digit, but no more than its PNG file says it may have.
      Rank by bits alone. Now it is found, and a wild digit with it. Which score is right depends on what you are looking for.
    - Raise the rate of false alarms: usual digits begin to be called unusual, as promised.
    - `detector.save("detector.json")` keeps the comparison; `rastrum score MODEL --images FOLDER --detector detector.json` uses it.
    """)
    return


if __name__ == "__main__":
    app.run()
