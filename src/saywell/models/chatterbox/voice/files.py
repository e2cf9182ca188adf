"""Names of the files of a converted model's voice encoder; each graph's weights are in NAME.data."""

TOKENIZER, XVECTOR, SPEAKER = "voice-tokenizer.onnx", "voice-xvector.onnx", "voice-speaker.onnx"
GRAPHS = (TOKENIZER, XVECTOR, SPEAKER)
