"""The local runner: execute under jobserver."""
