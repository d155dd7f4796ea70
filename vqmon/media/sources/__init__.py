"""Sources of segments: HLS and DASH playlists, and folders of media files."""
