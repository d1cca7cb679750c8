"""Ranking folders of images, patiently: a pass that can be watched, stopped and gone on with."""
