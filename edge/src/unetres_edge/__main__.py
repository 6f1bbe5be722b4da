"""`python -m unetres_edge`, which is `unetres-edge`."""

import sys

from .cli import main

sys.exit(main())
