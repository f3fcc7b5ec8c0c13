"""Mistakes of a config's author."""


class ConfigError(ValueError):
    """A mistake in a config file or an override; the message says what, why and the cure."""
