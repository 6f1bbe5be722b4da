"""Segmentation and classification: how samples become batches, how a model is opened, what is scored."""
