"""Where a project keeps what."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """The files and folders of a project.

    Parameters
    ----------
    folder : Path
        The project's.
    """

    folder: Path

    @property
    def settings(self) -> Path:
        """What people edit, and what makes the folder a project."""
        return self.folder / "loop.yaml"

    @property
    def held_out(self) -> Path:
        """The list of held-out photographs."""
        return self.folder / "held_out.txt"

    @property
    def answers(self) -> Path:
        """A file for each photograph that somebody said something of."""
        return self.folder / "annotations"

    @property
    def rounds(self) -> Path:
        """A folder for each round, by number."""
        return self.folder / "rounds"

    @property
    def ignored(self) -> Path:
        """What git is to leave out."""
        return self.folder / ".gitignore"

    @property
    def report(self) -> Path:
        """The page that shows how far the project is."""
        return self.folder / "report.html"

    def round(self, number: int) -> Path:
        """The folder of a round."""
        return self.rounds / f"{number:03}"

    def model(self, number: int) -> Path:
        """The model of a round."""
        return self.folder / "models" / f"{number:03}.safetensors"

    def scratch(self, name: str) -> Path:
        """What may be deleted at any time: the lock, a half-done pass, a half-trained model."""
        return self.folder / ".loop" / name
