"""Tables, figures, results with intervals, and the HTML report."""
