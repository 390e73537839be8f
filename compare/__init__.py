"""Methods beside each other on equal terms: a matrix of pairs x methods x seeds."""
