"""The local page of ``python -m icot.demo``: questions, writers, their race, and how it looks."""
