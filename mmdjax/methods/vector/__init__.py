"""Methods of utterance vectors: what they share."""
