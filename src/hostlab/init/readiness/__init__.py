"""When a job's main process is ready, and which process it is."""
