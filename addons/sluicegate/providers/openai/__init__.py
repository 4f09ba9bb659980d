"""OpenAI's APIs: Chat Completions, Responses, Completions, Embeddings."""
