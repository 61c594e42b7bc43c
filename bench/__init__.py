"""What xent reaches beside its peers and beside the machine's own limits: python -m bench.run."""
