"""Real Transformers: reading the files in which their weights come.

No file is trusted: whatever it says of itself is checked against its size before memory is set aside for it, and
nothing that it holds is executed.
"""
