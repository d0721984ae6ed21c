"""`python -m meterstream.streams.publisher`."""

import sys

from . import main

sys.exit(main())
