"""Held-out speech put to every model, beside the language model on its text."""
