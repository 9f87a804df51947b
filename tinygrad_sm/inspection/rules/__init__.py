"""Rules of the doctor, by family; `base.py` says what a rule is, `reading.py` how they read a graph."""
