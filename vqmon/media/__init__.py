"""A segment becomes frames and signals: guarded fetch, playlists, decoder processes."""
