"""Load a flow and build the graph of its tasks, as `dfm run` does before anything starts, and say how many nodes."""

import os
import sys

from dfm.core.reading import FlowOptions, graph_of, load

if __name__ == "__main__":
    print(len(graph_of(load(FlowOptions(), os.environ), sys.argv[1:], os.environ, None).nodes))
