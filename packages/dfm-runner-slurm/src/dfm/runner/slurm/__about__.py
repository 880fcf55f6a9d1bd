"""The version of the dfm-runner-slurm distribution."""

__version__ = "0.1.0"
