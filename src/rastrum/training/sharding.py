"""Weights, gradients and the optimiser in shards, by PyTorch's FSDP2, where each process holding all of them takes too much memory.

A sharded parameter is a ``DTensor``: each process holds some of its rows. What is written, evaluated or sampled from is whole.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def shard(module: nn.Module) -> None:
    """Shard all parameters, and from now on also their gradients; ``module`` is to be called, so that its weights are there meanwhile.

    module: with the same weights in every process; its parameters are replaced.
    """
    from torch.distributed.fsdp import fully_shard  # here, since it is slow to import

    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()                      # FSDP2 takes no others
    fully_shard(module)


def whole(x: Tensor) -> Tensor:
    """``x``, or all of it where it is in shards; every process has to ask."""
    sharded: Any = x
    return sharded.full_tensor() if hasattr(x, "full_tensor") else x


def sharded_as(parameter: Tensor, x: Tensor) -> Tensor:
    """``x``, or the shards of it where the parameter is in shards.

    parameter: of the same shape.
    x: whole, the same in every process.
    """
    if not hasattr(parameter, "device_mesh"):
        return x
    from torch.distributed.tensor import distribute_tensor

    shards: Any = parameter
    return distribute_tensor(x.to(parameter.device), shards.device_mesh, shards.placements)


def gather_weights(sharded: nn.Module, into: nn.Module) -> None:
    """Copy parameters and buffers.

    sharded: in shards, the same in every process.
    into: whole.
    """
    into.load_state_dict({name: whole(value) for name, value in sharded.state_dict().items()})
