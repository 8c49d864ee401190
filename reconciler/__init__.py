"""Terraform for telephony reseller accounts."""

__version__ = "0.1.0"
