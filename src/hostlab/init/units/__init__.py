"""systemd's units in a running init: their files, what of them is loaded, the boot, systemctl."""
