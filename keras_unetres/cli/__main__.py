"""`python -m keras_unetres.cli`."""

import sys

from . import main

sys.exit(main())
