"""The other form of a kept answer: the stream of one that came whole, and the whole of one that was streamed."""
