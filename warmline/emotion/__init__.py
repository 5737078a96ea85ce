"""The model: architecture, checkpoint, engines, device and thread plan."""
