"""`python -m dfm.core.worker` is `dfm worker`, without loading what only the other commands need."""

import sys

from dfm.core.worker.main import main

sys.exit(main())
