"""Streams that do not wait: a latency budget, a ladder of networks to keep it, and figures for the operator."""
