"""Workflows: each command as one Python function that joins the rooms."""
