"""What belongs to a segment besides its media: reference, separate sound, ad breaks, and its parts while it is made."""
