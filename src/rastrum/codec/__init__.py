"""Coding: ``coder`` defines the range coder that turns the integer CDF into bytes."""

from .coder import Decoder, Encoder

__all__ = ["Decoder", "Encoder"]
