"""MLflow's model registry: versions, ranking, registration, retrieval, exchange."""
