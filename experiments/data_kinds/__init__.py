"""Kinds of data sets that an experiment may name, one a file, registered as `miaod_plugin.data_kinds`."""
