"""Moving frames: threads and channels, lanes to a device, the upscaler, and the session that runs them."""
