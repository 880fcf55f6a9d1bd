"""Which runner, with which options."""
