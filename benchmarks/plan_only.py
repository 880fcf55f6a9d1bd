"""Load a flow and build the graph of its tasks, as `dfm run` does before anything starts; print what each cost as JSON.

`load` and `graph` are seconds of CPU.
"""

import json
import os
import sys
import time

from dfm.core.reading import FlowOptions, graph_of, load

if __name__ == "__main__":
    begun = time.process_time()
    loaded = load(FlowOptions(), os.environ)
    read = time.process_time()
    nodes = len(graph_of(loaded, sys.argv[1:], os.environ, None).nodes)
    print(json.dumps({"nodes": nodes, "load": read - begun, "graph": time.process_time() - read}))
