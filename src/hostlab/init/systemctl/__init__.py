"""`systemctl` and `journalctl` for units that run as jobs: their words, output and statuses."""
