"""Which errors are for the user's eyes."""


def is_for_user(error: BaseException) -> bool:
    """Whether the project raised it itself: then the message alone says what, why and the cure."""
    return any(kind.__module__.startswith("pipeline.") for kind in type(error).__mro__)
