"""One lowering, its interpreters: ``builder`` says what a program is, ``torch_interpreter`` runs it."""

from .builder import Program
from .torch_interpreter import TorchInterpreter

__all__ = ["Program", "TorchInterpreter"]
