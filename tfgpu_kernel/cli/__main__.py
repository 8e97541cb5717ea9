"""``python -m tfgpu_kernel.cli``, for where no script is on the PATH."""

import sys

from . import main

sys.exit(main())
