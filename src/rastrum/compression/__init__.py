"""Lossless files: blobs of images of a model's own size (``blobs``), and image files of any size (``photographs``, docs/format.md)."""

from .blobs import compress, decompress
from .fields import FileError
from .identity import fingerprint
from .photographs import Decoding, compress_image, decompress_image

__all__ = ["Decoding", "FileError", "compress", "compress_image", "decompress", "decompress_image", "fingerprint"]
