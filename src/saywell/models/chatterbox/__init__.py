"""The Chatterbox models of Resemble AI: English, multilingual, Turbo and Nano."""
