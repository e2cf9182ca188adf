"""From a reference clip to what the models are told of a voice: speaker embedding, speech tokens, x-vector, mel."""
