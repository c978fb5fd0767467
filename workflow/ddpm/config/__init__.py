"""What a run is made of: keys and their bounds, experiments, the registry of data sets and published weights."""
