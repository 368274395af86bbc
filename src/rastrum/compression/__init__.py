"""Files. Lossless ones: blobs of images of a model's own size (``blobs``), and image files of any size (``photographs``); progressive ones,
which may be cut anywhere (``conceptual``). docs/format.md has the bytes of the last two.
"""

from .blobs import compress, decompress
from .conceptual import compress_pictures, decompress_pictures
from .fields import FileError
from .identity import fingerprint
from .photographs import Decoding, compress_image, decompress_image
from .unpacking import Unpacking

__all__ = [
    "Decoding", "FileError", "Unpacking", "compress", "compress_image", "compress_pictures", "decompress", "decompress_image",
    "decompress_pictures", "fingerprint",
]  # fmt: skip
