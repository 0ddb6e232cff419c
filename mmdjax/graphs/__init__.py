"""Graphs of conversations and their spectra."""
