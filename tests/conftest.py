"""One torch thread per test process (two run at once), and no deadlines, because the machine may be busy."""

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("rastrum", deadline=None)
settings.load_profile("rastrum")


@pytest.fixture
def new_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """``build`` and ``load`` know the models of new_models.py too, which stand in for one that an author adds."""
    import new_models

    monkeypatch.setattr("rastrum.models.MODELS", new_models.MODELS)
