"""The commands of `python -m campaign_service`."""
