"""Pools that lie on more than one machine holds, ranked on a Ray cluster."""
