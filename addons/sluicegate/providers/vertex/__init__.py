"""Google Vertex AI: Claude and Gemini by their own APIs' bodies, at paths that name project, location, publisher and model."""
