"""``python -m miaod_plugin`` is the command ``miaod``."""

from .cli.app import main

main()
