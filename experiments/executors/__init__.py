"""Where the cells of an experiment run, one kind a file; registered as `miaod_plugin.executors`."""
