"""Small models for the studio's tests, one of each kind that a room shows, and one that none shows."""

from __future__ import annotations

from pathlib import Path

import rastrum
from rastrum import ConditionSpec, ImageSpec

SPEC = ImageSpec(1, 5, 4, 2)
SHOWN = ("classes", "colour", "draw", "files", "video", "map", "exemplars")


def save_models(folder: Path) -> dict[str, str]:
    """Builds them in a folder. Returns the name of each as ``rastrum.load`` takes it."""
    built = {
        "classes": rastrum.build("gated-pixelcnn", SPEC, "tiny", ConditionSpec("class", 3), seed=1),
        "colour": rastrum.build("pixelcnn", ImageSpec(3, 4, 4, 4), "tiny", seed=2),
        "draw": rastrum.build("draw", SPEC, "tiny", seed=3),
        "files": rastrum.build("conv-draw", ImageSpec(3, 8, 8), "tiny", seed=4, posterior="uniform", positional=False),
        "video": rastrum.build("video-pixel-network", ImageSpec(1, 4, 4, 2, frames=2), "tiny"),
        "map": rastrum.build("gated-pixelcnn", SPEC, "tiny", ConditionSpec("map", (2, 3, 4)), seed=5),
        "exemplars": rastrum.build("gated-pixelcnn", SPEC, "tiny", ConditionSpec("map", (2, 5, 4)), seed=6, condition_exemplars=True),
        "vector": rastrum.build("gated-pixelcnn", SPEC, "tiny", ConditionSpec("vector", 3)),
    }
    for tensor in built["map"].parameters():
        tensor.data.mul_(3)                                               # what the map says is then seen in the first digits of the bits
    for name, model in built.items():
        model.save_pretrained(folder / name)
    return {name: str(folder / name) for name in built}
