"""One module per stage of the pipeline: what it reads of the configuration, and what it does."""
