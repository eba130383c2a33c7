"""Reporting: tables, figures, results with intervals, and the HTML report."""
