"""The process that a batch job starts: it connects out to the daemon, runs attempts, and leaves by itself.

Its start is on the way of every pool, so nothing here imports what a task does not need: no YAML, no click, no plugins.
"""
