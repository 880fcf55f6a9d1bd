"""The version of the dfm-runner-lsf distribution."""

__version__ = "0.1.0"
