"""One torch thread a test process (two run at once), and no deadlines: the machine may be busy."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("rastrum", deadline=None)
settings.load_profile("rastrum")
