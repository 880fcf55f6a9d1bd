"""The worker pool for any batch system: its decisions, the batch system's commands, the links to workers."""
