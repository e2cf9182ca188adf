"""T3: text and a voice → speech tokens, by a Llama (English, multilingual) or a GPT-2 (Turbo, Nano)."""
