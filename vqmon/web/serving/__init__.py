"""What stands between the socket and the pages: limits of requests, reverse proxies and sign-in."""
