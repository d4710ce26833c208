"""Golden vectors of the wire: record bytes, topic and body bytes, JSON. See make.py."""
