"""The analysis of one call; read analyze.py first."""
