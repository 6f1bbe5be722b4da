"""From image files to the tile a network takes: decoding and preprocessing."""
