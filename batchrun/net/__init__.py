"""HTTP for node types: the transport, the client, addresses made from templates."""
