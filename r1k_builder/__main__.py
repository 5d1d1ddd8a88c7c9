"""`python -m r1k_builder` is `r1k-build`."""

import sys

from r1k_builder.cli import main

sys.exit(main())
