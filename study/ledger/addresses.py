"""Addresses of places: local paths and URLs, told apart in one way and shown without what is secret in them."""

import contextlib
import re
from pathlib import Path

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# What may be shown of the query of a URL; whatever else is there may be a key.
_HARMLESS = frozenset({"region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_bucket_deletion"})
_PORT = re.compile(r":\d{1,5}(?=/|$)")
MASK = "***"
SQLITE = "sqlite:///"


def is_url(text: str) -> bool:
    """Whether an address is a URL: it starts with ``scheme://``. Anything else is a path, whatever is in it."""
    return re.match(_SCHEME, text) is not None


def absolute(text: str) -> str:
    """A URL as it is; anything else is a path, made absolute."""
    if is_url(text):
        return text
    path = Path(text)
    # A folder may be called ~name where no user is.
    with contextlib.suppress(RuntimeError):
        path = path.expanduser()
    return str(path.absolute())


def without_secret(text: str) -> str:
    """A URL, or a sentence with URLs in it, without user names, passwords, tokens and keys."""
    if is_url(text):
        return _masked(text)
    return re.sub(rf"\b{_SCHEME}\S+", lambda found: _masked(found[0]), text)


def without_secret_of(uri: str, text: str) -> str:
    """A text that may quote ``uri``, which may have blanks in its secret, without the secret."""
    return without_secret(text.replace(uri, without_secret(uri)))


def _masked(url: str) -> str:
    """A URL without what may be secret. A secret may hold any character: where it ends is decided for its sake."""
    scheme, _, rest = url.partition("://")
    place, mark, query = rest.partition("?")
    if "@" not in place and "@" in query and ":" in _PORT.sub("", place):
        # user:secret with a question mark in the secret
        place, _, after = rest.rpartition("@")
        after, mark, query = after.partition("?")
        place = f"@{after}"
    if "@" in place:
        place = f"{MASK}@{place.rpartition('@')[2]}"
    return f"{scheme}://{place}{mark}" + "&".join(map(_masked_option, query.split("&")))


def _masked_option(option: str) -> str:
    name, mark, _ = option.partition("=")
    if not option or name in _HARMLESS:
        return option
    return f"{name}={MASK}" if mark else MASK
