"""One kernel facility a module; thin, with the kernel's own names."""
