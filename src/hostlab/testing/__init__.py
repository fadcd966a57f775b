"""Labs in tests: shared and set back, a pytest plugin, a backend of testinfra."""
