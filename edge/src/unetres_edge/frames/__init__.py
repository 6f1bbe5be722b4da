"""Frames of cameras, videos and addresses of the network, and videos that are written."""
