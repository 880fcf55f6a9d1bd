"""One request in a process of its own, for runners that start a command for each task: `dfm.api.runner.TaskCommand`."""
