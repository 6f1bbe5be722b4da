"""A class for the whole image."""
