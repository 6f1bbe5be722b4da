"""The model file: its card, its digest, and the test it carries."""
