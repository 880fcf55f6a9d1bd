"""A runner for DFM that runs each task through a command, such as nice or srun."""
