"""Telling others that jobs and batches have ended."""
