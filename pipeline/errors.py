"""Which errors are shown to users by their message alone."""


def is_for_user(error: BaseException) -> bool:
    """Whether it is one of the project's own: its message says what happened, why, and the cure."""
    return any(kind.__module__.startswith("pipeline.") for kind in type(error).__mro__)
