"""The report as one HTML page that needs no network: inline SVG, light and dark."""
