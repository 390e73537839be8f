"""The same application on Ray Serve: replicas, on one machine or many."""
