"""Language models over sequences of integers: units of speech, or pieces of text."""
