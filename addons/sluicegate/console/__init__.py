"""The console: the lines that a running gateway prints, one for each call and one for each warning, as text or as JSON."""
