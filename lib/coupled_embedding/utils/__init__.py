"""Errors, files, paths, YAML, processes and the command line."""
