"""Weights of other people, and for other people: formats, names, downloads."""
