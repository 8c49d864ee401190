"""Tells others of a run that has ended: messages, metrics, traces. None of it changes what came of the run."""
