"""The wholes: each file wires parts for one purpose."""
