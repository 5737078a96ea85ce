"""Bytes to channels of 16 kHz float32, to speech segments, to windows. Everything streams."""
