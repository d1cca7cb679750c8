"""What is done on a Ray cluster: reaching one, and passes over pools that lie on more than one machine can hold."""
