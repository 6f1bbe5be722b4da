"""Engines: what runs the network of a model file. `table` says which there are and opens one."""
