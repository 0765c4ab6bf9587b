"""Trying to break icot: kills, signals, full disks, damaged files, bad input, long runs.

    python -m tests.chaos all --out figures.json     each part in full form, one after the other
    python -m tests.chaos kills --count 10
    python -m tests.chaos moments commands signals disk damage input memory
    python -m tests.chaos fuzz --seconds 600         each parser so long, guided by coverage

Each part works on real runs and commands in processes of their own, and compares with undisturbed
ones. The table that is printed is that of docs/reliability.md.
"""
