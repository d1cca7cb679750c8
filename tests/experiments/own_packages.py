"""What pip leaves of a package that registers a part of its own."""

from pathlib import Path


def register(site: Path, group: str, entry: str) -> None:
    """Write into a folder of modules that `entry`, such as ``smoothed = smoothing:Smoothed``, belongs to a group."""
    about = site / "own-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
