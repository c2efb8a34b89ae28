"""Pure functions of tensors on any device, without files, threads or state."""
