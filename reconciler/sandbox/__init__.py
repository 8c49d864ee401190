"""The platform in small: the same rules, envelopes and side effects, in one process.

Written from docs/platform.md alone, as a reading of it that the planner does not share: of the
rest of the tool it knows the account document (`reconciler.core.account`) and nothing else.
"""
