"""``push``: a model on the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from .show import Json, ModelName, answer, load_model


def push(
    model: ModelName,
    repository: Annotated[Positional[str], arg(metavar="OWNER/NAME", help="on the Hub; created if need be")],
    license: Annotated[
        str | None,
        arg(metavar="NAME", help="of the weights, as the Hub spells it: mit, cc-by-4.0, …; default: none is stated", help_behavior_hint=""),
    ] = None,
    private: Annotated[
        bool, arg(help="make a new repository private; default: as the owner's settings say", help_behavior_hint="")
    ] = False,
    branch: Annotated[
        str | None, arg(metavar="NAME", help="to commit to, created if need be; default: main", help_behavior_hint="")
    ] = None,
    class_names: Annotated[bool, arg(help="leave out the names of the classes", help_behavior_hint="")] = True,
    create_pr: Annotated[bool, arg(help="open a pull request from the commit")] = False,
    message: Annotated[str, arg(help="of the commit")] = "Upload a model of Rastrum",
    json: Json = False,
) -> None:
    """Upload a model with its card and scores to the Hugging Face Hub. It needs the extra `hub` and a login (`hf auth login`).

    What is uploaded: weights, settings, scores, a picture of samples, and of your own images the name of their folder (without the path),
    their number and the names of their classes; no image and no path.

    Then `rastrum sample hf://OWNER/NAME`, and every other command that takes a MODEL, works on any machine.
    """
    commit = load_model(model, "cpu").push_to_hub(
        repository,
        license=license,
        private=private or None,
        branch=branch,
        create_pr=create_pr or None,
        commit_message=message,
        class_names=class_names,
    )
    owner, name = commit.partition("/commit/")[0].split("/")[-2:]
    answer({"model": model, "repository": f"{owner}/{name}", "commit": commit}, json, commit)
