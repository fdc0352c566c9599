"""What schemathesis must know about the HTTP API in addition to its document."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    """The document declares such a body as a string, which is sent unchanged."""
    return value.encode() if isinstance(value, str) else str(value).encode()
