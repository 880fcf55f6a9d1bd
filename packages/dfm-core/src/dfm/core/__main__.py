"""`python -m dfm.core` is `dfm`."""

from dfm.core.cli.app import main

main()
