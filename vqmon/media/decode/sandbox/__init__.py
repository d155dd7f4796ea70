"""The jail in which a decoder process works: what the kernel takes away from it before it reads untrusted bytes."""
