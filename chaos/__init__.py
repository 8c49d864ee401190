"""Proof by violence that an interrupted run does no harm: see docs/reliability.md."""
