"""`python -m keras_unetres`, which is `unetres`."""

import sys

from .cli import main

sys.exit(main())
