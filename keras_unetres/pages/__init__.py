"""Pages from figures, by templates, and pictures of what a model does; nothing here reads a data set or decides."""
