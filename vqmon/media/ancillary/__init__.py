"""What media carry beside pictures and sound: splice messages and subtitles."""
