"""What a segmentation gives: the class map, its outlines, and pictures of it."""
