"""Looking at nodes and at the machine: namespaces, capabilities, packets, pictures."""
