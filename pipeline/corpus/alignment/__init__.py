"""When each phone is spoken, read from the files of an aligner."""
