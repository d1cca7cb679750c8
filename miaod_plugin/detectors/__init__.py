"""Detectors behind the adapter contract."""
