"""One task request on this host: staging, body, process tree, harvest."""
