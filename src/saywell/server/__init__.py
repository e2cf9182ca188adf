"""The API process: HTTP in, a Request to the engine, encoded audio out. Never touches a model."""
