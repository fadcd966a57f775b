"""The job machine: expressions, states, respawn, readiness. Pure; `now` is passed in."""
