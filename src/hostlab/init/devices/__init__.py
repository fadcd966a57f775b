"""Devices as an init's world has them: what is plugged in, heard in three ways."""
