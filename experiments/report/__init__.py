"""What comes of a run: tables, curves, statistics, a page."""
