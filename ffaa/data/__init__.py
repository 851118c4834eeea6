"""Pictures, faces, benchmarks and training records: everything that is read from files."""
