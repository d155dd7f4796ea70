"""Where segments come from: HLS and DASH playlists, folders."""
