"""The encoders: a file for each kind of front end, and `load`, which picks one by the family."""
