"""The error of what cannot be used; apart from utterances, so that models need none of their tables."""


class UnusableError(ValueError):
    """A row that cannot become an utterance; the message becomes the reason of its Reject."""
