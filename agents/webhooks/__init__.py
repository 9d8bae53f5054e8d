"""Webhooks: who is told of alerts, by the Standard Webhooks specification."""
