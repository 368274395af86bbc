"""Train your own in five minutes, and share it: a lesson. `marimo edit notebooks/train_and_share.py`"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium")


@app.cell
def _():
    import tempfile
    from pathlib import Path

    import marimo as mo
    import torch

    import rastrum
    from rastrum.data import load_dataset

    return Path, load_dataset, mo, rastrum, tempfile, torch


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    # Train your own, and share it

    The package has 1,797 handwritten digits of 8x8 pixels and 17 levels. Five minutes on one core are enough for a model that draws
    them. In place of `"digits"` you can write the path of a folder with images of your own.
    """)
    return


@app.cell
def _(load_dataset, mo, rastrum):
    data, held_out = load_dataset("digits", "train"), load_dataset("digits", "test")
    mo.vstack([rastrum.show(data, most=20, columns=10, title=f"{len(data):,} to learn from, {len(held_out):,} kept aside")], align="start")
    return data, held_out


@app.cell
def _(mo):
    _systems = ["gated-pixelcnn", "pixelcnn", "row-lstm", "diagonal-bilstm", "draw", "vae"]
    system = mo.ui.dropdown(_systems, value="gated-pixelcnn", label="model")
    minutes = mo.ui.slider(steps=[0.1, 0.5, 1, 2, 5], value=1, label="minutes", show_value=True)
    seed = mo.ui.number(0, 99, value=0, label="seed")
    go = mo.ui.run_button(label="train")
    mo.hstack([system, minutes, seed, go], justify="start", wrap=True)
    return go, minutes, seed, system


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    Without a press of the button you see what 150 steps give, ten seconds of work: blots, with a hint of digits. With five minutes, digits.
    """)
    return


@app.cell
def _(data, go, held_out, minutes, mo, rastrum, seed, system):
    _budget = {"minutes": minutes.value} if go.value else {"steps": 150}
    run = rastrum.train(system.value, data, held_out=held_out.subset(100), conditional=True, seed=seed.value, progress=go.value, **_budget)
    mo.vstack([run], align="start")
    return (run,)


@app.cell
def _(mo, rastrum, run, torch):
    samples = rastrum.sample(run.model, 20, torch.arange(20) % 10, seed=1, progress=False)
    mo.vstack([rastrum.show(samples, columns=10, title="two of each class")], align="start")
    return (samples,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    The score is in nats per image and bits per value of digits that it has not seen: what a perfect code for them would take. A
    canvas model's is an upper limit, marked as a bound.

    ## Save it

    A saved model is a folder of three files: `model.safetensors`, `config.json`, and a card that says what it was trained on, how
    long, and what it scores. Nobody has to write it, and nothing in it is a program that could run on another's machine.
    """)
    return


@app.cell
def _(Path, mo, run, system, tempfile):
    folder = Path(tempfile.mkdtemp()) / f"{system.value}-digits"
    run.model.save_pretrained(folder)
    _card = (folder / "README.md").read_text(encoding="utf-8").split("---", 2)[2]
    mo.vstack(
        [mo.md(f"`{folder}`: {', '.join(sorted(each.name for each in folder.iterdir()))}"), mo.accordion({"the card": mo.md(_card)})],
        align="start",
    )
    return (folder,)


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Load it

    As anyone would to whom you give the folder. The same seed draws the same images.
    """)
    return


@app.cell
def _(folder, mo, rastrum, samples, torch):
    again = rastrum.sample(rastrum.load(folder), 20, torch.arange(20) % 10, seed=1, progress=False)
    same = torch.equal(again, samples)
    mo.callout(f"Loaded; its samples are {'the same, bit for bit' if same else 'others'}.", kind="success" if same else "danger")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md("""
    ## Share it

    This notebook uploads nothing. `rastrum push FOLDER you/digits --license cc-by-4.0`, in a terminal and after `hf auth login`,
    puts the three files on the Hugging Face Hub, and `rastrum.load("hf://you/digits")` loads them anywhere. Or put the folder on a
    stick.

    ## Try

    - Which model has the best score after one minute? After five?
    - Train the same model with two seeds. How far apart are the scores, and what does that say about comparing models?
    """)
    return


if __name__ == "__main__":
    app.run()
