"""Click commands, a module each; the only place that prints or exits."""
