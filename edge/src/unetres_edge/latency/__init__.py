"""How long a network takes on a device, foretold from what its operations cost there: a profile, and sums over a graph.

`measure` times operations, `profile` is the file of what was found, `graph` lists those of a model file, `estimate`
adds up. Training reads a profile to plan a network for a device that is not at hand.
"""
