"""What schemathesis is told of the gateway's HTTP interface besides its document."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    """The document calls such a body a string: it goes as it is."""
    return value.encode() if isinstance(value, str) else str(value).encode()
