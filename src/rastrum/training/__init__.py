"""Parts of a training run: workers, optimiser, clock, signals, and the folder that it can be resumed from. The loop: ``train.py``."""
