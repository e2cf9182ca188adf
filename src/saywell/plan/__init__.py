"""Decides: settings, facts and measurements in, a Plan with its reasons out."""
