"""Layers of the models, in torch; float32 on a CPU takes compiled forms where they fit (``native_for``)."""
