"""Everything that touches mitmproxy's own machinery, and nothing else may."""
