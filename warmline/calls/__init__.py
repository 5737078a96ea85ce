"""The analysis of one call; read analyze.py first.

analyze.py   the whole road: a file and an engine in, a report out
ahead.py     what is read and decoded ahead of the scoring
summary.py   the report's arithmetic
report.py    the report, a versioned document
stored_reports.py
             reports that were made, read again: for rules, exports and aggregates
"""
