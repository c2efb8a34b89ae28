"""Video super-resolution that streams."""
