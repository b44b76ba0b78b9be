"""What a foreign model raised, in one line."""


def reason_of(error: BaseException) -> str:
    """An exception's class and message on one line, at most 200 characters of it, for a report or an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('.')}"
