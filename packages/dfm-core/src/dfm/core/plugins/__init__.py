"""Finding plugins by name without importing them, and calling their hooks."""
