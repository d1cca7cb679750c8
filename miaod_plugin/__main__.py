"""``python -m miaod_plugin`` is the command ``miaod``."""

from miaod_plugin.cli import main

main()
