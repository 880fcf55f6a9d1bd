"""`python -m dfm.core.worker` is what a batch job starts."""

from dfm.core.worker.main import main

main()
