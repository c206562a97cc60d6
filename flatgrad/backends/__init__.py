"""From generated source text to something callable; nothing in here knows the IR."""
