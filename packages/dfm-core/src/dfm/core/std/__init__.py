"""The standard library of flows: its flow.yaml and the Python bodies of std.*; imports dfm.api only.

Its tasks run inside DFM's own process: they start nothing and cost no slot.
"""

import os

FLOW_FILE = os.path.join(os.path.dirname(__file__), "flow.yaml")
"""Absolute path of the flow file of package `std`."""
