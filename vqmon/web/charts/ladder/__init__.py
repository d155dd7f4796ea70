"""The charts of a ladder: rate-quality curves as SVG for pages and as a PNG for tickets and chats."""
