"""Graphs of other libraries, read into the snapshot that pictures and the doctor read."""
