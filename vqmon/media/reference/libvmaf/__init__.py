"""VMAF and CAMBI by libvmaf, in an ffmpeg program that the owner names and that gets raw pictures only."""
