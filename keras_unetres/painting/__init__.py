"""Masks painted in a browser: the project folder, its journal, and the server. No network is trained here."""
