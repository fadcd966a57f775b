"""Faults: broken on purpose, taken back, tried at random. `docs/decisions/faults.md` says why."""
