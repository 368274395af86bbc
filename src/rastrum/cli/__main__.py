"""``python -m rastrum.cli``, for where the ``rastrum`` script is not on the path."""

import sys

from . import main

sys.exit(main())
