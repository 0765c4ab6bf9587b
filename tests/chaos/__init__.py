"""Trying to break a run: kills, signals, full disks, damaged files, bad input, long runs.

    python -m tests.chaos                         everything, about half an hour on two cores
    python -m tests.chaos kills --count 50
    python -m tests.chaos moments signals disk damage input memory

Every experiment works on real runs of ``python -m icot.train`` and compares with an undisturbed
one. The table it prints is that of docs/reliability.md.
"""
