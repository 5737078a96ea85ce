"""What tells people from outside how the work goes: traces."""
