"""The warmline command."""
