"""Images to train on and to score: ``load_dataset`` reads them by name, from files or from the Hub."""

from .dataset import Dataset as Dataset
from .dataset import load_dataset as load_dataset
