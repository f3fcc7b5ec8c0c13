"""Corpora: from folders of audio and text to one checked table of utterances."""
