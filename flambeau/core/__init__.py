"""Facts shared by every stage: data types, shapes and metadata, errors, configuration."""
