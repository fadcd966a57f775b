"""systemd's units as jobs; docs/decisions/systemd-units.md has the theory.

`selection` says which files make a unit, `unit.read_unit` makes it of their texts, and
`loading.load_units` gives the jobs of many with all that they say of each other. Nothing is
imported here: what starts processes needs `environment` alone.
"""
