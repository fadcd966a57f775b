"""An init without a lab."""
