"""Every model once more, as a PyTorch user would write it: the references of ``benchmarks/training.py``.

A file per system, with ``build(ours)``: a module with the parameters of ``ours`` whose ``forward(x, condition)`` gives the loss of each
image in nats, (B,).
"""
