"""Measurements of speed, beside what the paper's networks need."""
