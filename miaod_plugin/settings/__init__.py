"""Files of settings that people write: how they are read, checked and refused."""
