"""What a reader sees of a sweep: tables, pictures, numbers with intervals, the page."""
