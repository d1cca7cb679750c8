"""Pages from templates."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SHARED = Path(__file__).parent / "templates"


def template_environment(templates: Path) -> Environment:
    """Return where a page's own templates are found, and those that pages share; what they are given is escaped."""
    return Environment(
        loader=FileSystemLoader([templates, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
