"""The dashboard in Chromium. A package, so that browser and company end with its last test."""
