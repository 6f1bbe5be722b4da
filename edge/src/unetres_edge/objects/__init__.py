"""Cells, not only pixels: from scores to single objects, and what is written down of them.

Objects that touch are parted by watershed; nothing here runs a network or scores a result.
"""
