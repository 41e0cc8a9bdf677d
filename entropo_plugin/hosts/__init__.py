"""The bridges to training frameworks, and what they share."""
