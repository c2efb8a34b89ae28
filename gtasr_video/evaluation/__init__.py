"""Measuring: truth and its degradations, methods and peers, metrics, tables and pages."""
