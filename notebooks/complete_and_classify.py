"""Completion, classes and Bayes' rule: a lesson. `marimo edit notebooks/complete_and_classify.py`"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo
    import torch

    import rastrum
    from rastrum.applications.bayes_classifier import log_posterior

    return log_posterior, mo, rastrum, torch


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Complete, and ask what it is

    A model of images, given the class, knows three things at once: how to draw a five, how to finish a drawing, and, by Bayes'
    rule, what a drawing is. All three are the same walk over the pixels; only what chooses the next value differs.
    """)
    return


@app.cell
def _(mo, rastrum, torch):
    model = rastrum.load("rastrum/row-lstm-mnist-classes")
    digits = rastrum.sample(model, 10, torch.arange(10), seed=5, progress=False)
    mo.vstack([rastrum.show(digits, columns=10, labels=range(10), title="drawn: one of each class")], align="start")
    return digits, model


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Complete

    Keep the upper rows of a digit, and let the model draw the rest as a digit of a class of your choice.
    """)
    return


@app.cell
def _(mo):
    which = mo.ui.slider(0, 9, value=3, label="digit", show_value=True)
    rows = mo.ui.slider(2, 26, value=12, label="rows kept", show_value=True)
    as_class = mo.ui.slider(0, 9, value=8, label="completed as a", show_value=True)
    mo.hstack([which, rows, as_class], justify="start", wrap=True)
    return as_class, rows, which


@app.cell
def _(as_class, digits, mo, model, rastrum, rows, torch, which):
    _known = torch.zeros(28, 28, dtype=torch.bool)
    _known[: rows.value] = True
    _one = digits[which.value : which.value + 1]
    completions = rastrum.complete(model, _one, _known, as_class.value, num_samples=6, seed=0, progress=False)
    mo.vstack(
        [rastrum.show(completions, title=f"the upper {rows.value} rows of a {which.value}, completed as a {as_class.value}")], align="start"
    )
    return (completions,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## What is it?

    $$p(\text{class} \mid x) = \frac{p(x \mid \text{class})\, p(\text{class})}{\sum_k p(x \mid k)\, p(k)}$$

    Each $p(x \mid \text{class})$ is exact, so this is a classifier, though nobody trained one. It judges the completions above:
    does a three with the lower half of an eight become an eight?
    """)
    return


@app.cell
def _(completions, digits, log_posterior, mo, model, rastrum, torch):
    _images = rastrum.Images(torch.cat([digits.plain, completions[0].plain]), model.spec.levels)
    _posterior = log_posterior(model, _images).exp()
    _best = _posterior.argmax(1)
    _labels = [f"{int(k)}: {float(p[k]):.0%}" for k, p in zip(_best, _posterior, strict=True)]
    right = int((_best[:10] == torch.arange(10)).sum())
    mo.vstack(
        [
            rastrum.show(_images, columns=8, labels=_labels, title="the most probable class"),
            mo.md(f"{right} of the 10 digits above are read as the class that they were drawn for."),
        ],
        align="start",
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Try

    - Keep two rows: the class decides everything. Keep 24: it hardly matters what you ask for.
    - Find a digit and a number of rows for which the completion is torn between two classes.
    - With `particles=16`, `rastrum.complete` also lets known pixels *below* steer what is drawn above them.
    """)
    return


if __name__ == "__main__":
    app.run()
