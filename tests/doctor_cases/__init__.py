"""Pairs of programs for each rule of the doctor, healthy models, and faults planted in them."""
