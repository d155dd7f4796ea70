"""Know, segment by segment, whether viewers still see good pictures."""
