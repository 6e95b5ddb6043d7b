"""The one exception of the library that a user is meant to read."""


class ProbeError(ValueError):
    """A user's mistake or bad input: one line that says what was found, what was expected and what to do."""


class DrawingError(ProbeError):
    """A figure that could not be drawn; the result that it would show is whole."""
